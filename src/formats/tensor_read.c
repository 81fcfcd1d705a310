/* Values of a tensor on their way to a device: converted, and refused when one is not finite. Gigabytes pass through
 * here, so the loops have no branch; where a bad value sits is only searched for once there is one. */
#include "base/error.h"
#include "formats/tensors.h"
#include "formats/tensors_build.h"
#include <sys/mman.h>

enum { CHUNK = 4096 }; /* elements, a multiple of every block */

static bool check_range(const ace_tensor *tensor, int64_t first, int64_t count, ace_error *error)
{
    int block = ace_dtype_block(tensor->dtype);
    if (tensor->dtype == ACE_UNSUPPORTED)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "'%s': tensor \"%s\" is of type %s, which is not supported: use a checkpoint in F32, F16, "
                        "BF16, Q8_0, Q6_K, Q5_K or Q4_K",
                        tensor->path, tensor->name, tensor->type_name);
    if (first < 0 || count < 0 || first > tensor->count || count > tensor->count - first || first % block ||
        count % block)
        return ace_fail(error, ACE_ERROR_INTERNAL,
                        "tensor \"%s\": elements %lld to %lld of %lld, in blocks of %d, cannot be read", tensor->name,
                        (long long)first, (long long)(first + count), (long long)tensor->count, block);
    return true;
}

static bool fail_not_finite(const ace_tensor *tensor, int64_t index, bool overflow, ace_error *error)
{
    return ace_fail(
        error, ACE_ERROR_FORMAT,
        "'%s': tensor \"%s\" (%s) %s at element %lld: the file is damaged or no proper checkpoint; download "
        "it again",
        tensor->path, tensor->name, tensor->type_name,
        overflow ? "has a value too large to compute with" : "is NaN or infinite", (long long)index);
}

/* First non-finite value, n when there is none. */
static int64_t find_bad_f32(const float *values, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
    }
    if (!bad) return n;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        if ((bits & 0x7f800000u) == 0x7f800000u) return i;
    }
    return n;
}

static int64_t find_bad_bf16(const uint16_t *values, int64_t n)
{
    uint16_t bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= (uint16_t)((values[i] & 0x7f80u) == 0x7f80u);
    if (!bad) return n;
    for (int64_t i = 0; i < n; i++)
        if ((values[i] & 0x7f80u) == 0x7f80u) return i;
    return n;
}

/* At most CHUNK elements, unchecked. */
static void convert(const ace_tensor *tensor, int64_t first, int64_t count, float *values)
{
    if (!tensor->data) {
        synthetic_values(tensor, first, count, values);
        return;
    }
    size_t blocks = (size_t)(first / ace_dtype_block(tensor->dtype));
    dequantize(tensor->dtype, tensor->data + blocks * ace_dtype_block_bytes(tensor->dtype), count, values);
}

/* F64 is the one type whose finite values may be too large for float32. */
static bool overflowed(const ace_tensor *tensor, int64_t index)
{
    if (tensor->dtype != ACE_F64) return false;
    double value;
    memcpy(&value, tensor->data + 8 * index, sizeof value);
    return value - value == 0;
}

bool tensor_read(const ace_tensor *tensor, int64_t first, int64_t count, float *values, ace_error *error)
{
    if (!check_range(tensor, first, count, error)) return false;
    for (int64_t done = 0; done < count; done += CHUNK) {
        int64_t n = count - done < CHUNK ? count - done : CHUNK;
        convert(tensor, first + done, n, values + done);
        int64_t bad = find_bad_f32(values + done, n), index = first + done + bad;
        if (bad < n) return fail_not_finite(tensor, index, overflowed(tensor, index), error);
    }
    return true;
}

bool tensor_read_bf16(const ace_tensor *tensor, int64_t first, int64_t count, uint16_t *values, ace_error *error)
{
    if (!check_range(tensor, first, count, error)) return false;
    float chunk[CHUNK];
    for (int64_t done = 0; done < count; done += CHUNK) {
        int64_t n = count - done < CHUNK ? count - done : CHUNK, index = first + done;
        if (tensor->dtype == ACE_BF16 && tensor->data) {
            memcpy(values + done, tensor->data + 2 * index, (size_t)n * 2);
        } else {
            convert(tensor, index, n, chunk);
            for (int64_t i = 0; i < n; i++) values[done + i] = ace_f32_to_bf16(chunk[i]);
        }
        int64_t bad = find_bad_bf16(values + done, n);
        if (bad == n) continue;
        bool finite = tensor->dtype != ACE_BF16 && find_bad_f32(chunk + bad, 1) == 1;
        return fail_not_finite(tensor, index + bad, finite || overflowed(tensor, index + bad), error);
    }
    return true;
}

bool tensor_read_blocks(const ace_tensor *tensor, int64_t first, int64_t count, ace_dtype blocks, void *copy,
                        ace_error *error)
{
    if (tensor->dtype != blocks || ace_dtype_block(blocks) == 1 || !tensor->data)
        return ace_fail(error, ACE_ERROR_INTERNAL, "tensor \"%s\" (%s) has no blocks of type %s to copy", tensor->name,
                        tensor->type_name, ace_dtype_name(blocks));
    if (!check_range(tensor, first, count, error)) return false;
    float chunk[CHUNK];
    for (int64_t done = 0; done < count; done += CHUNK) {
        int64_t n = count - done < CHUNK ? count - done : CHUNK;
        convert(tensor, first + done, n, chunk);
        int64_t bad = find_bad_f32(chunk, n);
        if (bad < n) return fail_not_finite(tensor, first + done + bad, false, error);
    }
    size_t bytes = ace_dtype_block_bytes(blocks);
    int64_t block = ace_dtype_block(blocks);
    memcpy(copy, tensor->data + (size_t)(first / block) * bytes, (size_t)(count / block) * bytes);
    return true;
}

/* ---- pages ----------------------------------------------------------------------------------------------------- */

enum { PAGE = 4096 };

void tensor_will_need(const ace_tensor *tensor)
{
    uintptr_t first = (uintptr_t)tensor->data / PAGE * PAGE, end = (uintptr_t)tensor->data + tensor->bytes;
    if (tensor->data) madvise((void *)first, end - first, MADV_WILLNEED);
}

/* Only whole pages: those at the edges belong to neighbours, too. */
void tensor_not_needed(const ace_tensor *tensor)
{
    uintptr_t first = ((uintptr_t)tensor->data + PAGE - 1) / PAGE * PAGE;
    uintptr_t end = ((uintptr_t)tensor->data + tensor->bytes) / PAGE * PAGE;
    if (tensor->data && first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}
