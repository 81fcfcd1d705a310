/* gpu_yardstick.cu - the same products by NVIDIA's cuBLASLt, and what the chip does at best: what gpu_bench's numbers
 * are held against. Development only: nothing else knows cuBLASLt. One JSON object a line. */
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdio>

static double seconds_of(cudaEvent_t start, cudaEvent_t end)
{
    float ms = 0;
    cudaEventSynchronize(end);
    cudaEventElapsedTime(&ms, start, end);
    return ms * 1e-3;
}

/* y[m][n] = x[m][k] w[n][k]^T in bf16, sums in float32: column-major, y^T = w x^T. */
static bool product(cublasLtHandle_t lt, int64_t m, int64_t n, int64_t k, void *memory, size_t workspace)
{
    __nv_bfloat16 *x = (__nv_bfloat16 *)memory, *w = x + m * k, *y = w + n * k;
    void *room = y + m * n + 128;
    room = (void *)(((size_t)room + 255) / 256 * 256);
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t lw, lx, ly;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    cublasOperation_t yes = CUBLAS_OP_T;
    int count = 0;
    float one = 1, zero = 0;
    cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &yes, sizeof yes);
    cublasLtMatrixLayoutCreate(&lw, CUDA_R_16BF, (uint64_t)k, (uint64_t)n, k);
    cublasLtMatrixLayoutCreate(&lx, CUDA_R_16BF, (uint64_t)k, (uint64_t)m, k);
    cublasLtMatrixLayoutCreate(&ly, CUDA_R_16BF, (uint64_t)n, (uint64_t)m, n);
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                         sizeof workspace);
    if (cublasLtMatmulAlgoGetHeuristic(lt, desc, lw, lx, ly, ly, preference, 1, &found, &count) != 0 || count == 0)
        return false;
    cudaEvent_t start, end;
    cudaEventCreate(&start);
    cudaEventCreate(&end);
    double best = 1e30;
    for (int i = 0; i < 8; i++) {
        const int repeats = 20;
        cudaEventRecord(start);
        for (int r = 0; r < repeats; r++)
            if (cublasLtMatmul(lt, desc, &one, w, lw, x, lx, &zero, y, ly, y, ly, &found.algo, room, workspace, 0) != 0)
                return false;
        cudaEventRecord(end);
        double seconds = seconds_of(start, end) / repeats;
        if (seconds < best) best = seconds;
    }
    printf("{\"yardstick\":\"cuBLASLt\",\"what\":\"bf16 %lld x %lld, %lld rows\",\"ms\":%.5f,\"tflops\":%.3f,"
           "\"gbytes_per_s\":%.1f}\n",
           (long long)n, (long long)k, (long long)m, best * 1e3, 2.0 * (double)m * (double)n * (double)k / best * 1e-12,
           2.0 * (double)(m * k + n * k + m * n) / best * 1e-9);
    return cudaGetLastError() == cudaSuccess;
}

int main()
{
    static const int64_t shapes[][3] = {
        {3000, 2048, 2048}, {3000, 12288, 2048}, {3000, 2048, 6144}, {750, 12288, 2048}, {1000, 12288, 2048},
        {1, 12288, 2048},   {2, 12288, 2048},    {2, 2048, 6144},    {8, 12288, 2048},   {16, 12288, 2048}};
    const size_t workspace = (size_t)32 << 20;
    cublasLtHandle_t lt;
    void *memory = NULL;
    if (cudaMalloc(&memory, (size_t)1 << 30) != cudaSuccess || cublasLtCreate(&lt) != 0) {
        printf("{\"yardstick\":\"cuBLASLt\",\"error\":\"%s\"}\n", cudaGetErrorString(cudaGetLastError()));
        return 1;
    }
    cudaMemset(memory, 0, (size_t)1 << 30);
    bool ok = true;
    for (const auto &s : shapes) ok = product(lt, s[0], s[1], s[2], memory, workspace) && ok;
    return ok ? 0 : 1;
}
