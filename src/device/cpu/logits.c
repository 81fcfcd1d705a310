/* logits.c - dot products with rows of a table: the head of a language model.
 *
 * There are few rows of x and very many of the table, so that the speed is that of reading the table: each of its rows
 * comes from memory once, and is in the first-level cache for all rows of x. */
#include "device/cpu/cpu.h"

enum { TASK_BYTES = 256 << 10 }; /* of the table */

typedef struct head {
    const cpu_kernels *kernels;
    ace_mat y, x;
    const ace_weight *table;
    const int32_t *ids;
    int64_t first, per_task;
} head;

static void head_task(void *context, int64_t index, int worker)
{
    const head *h = context;
    (void)worker;
    int64_t k = h->x.cols, begin = index * h->per_task, end = cpu_min(begin + h->per_task, h->y.cols);
    size_t row_bytes = (size_t)k * ace_dtype_block_bytes(h->table->dtype);
    for (int64_t col = begin; col < end; col += CPU_DOTS) {
        const void *rows[CPU_DOTS];
        int count = (int)cpu_min(CPU_DOTS, end - col);
        for (int c = 0; c < count; c++) {
            int64_t id = h->ids ? h->ids[col + c] : h->first + col + c;
            rows[c] = (const char *)h->table->data + (size_t)id * row_bytes;
        }
        for (int64_t m = 0; m < h->x.rows; m += CPU_DOTS)
            h->kernels->dots((float *)ace_mat_row(h->y, m) + col, h->y.stride, ace_mat_row(h->x, m), h->x.stride,
                             (int)cpu_min(CPU_DOTS, h->x.rows - m), rows, count, h->table->dtype, k, m == 0);
    }
}

void cpu_logits(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *table, int64_t first, const int32_t *ids)
{
    head h = {.kernels = cpu_of(dev)->kernels, .y = y, .x = x, .table = table, .ids = ids, .first = first};
    int64_t row_bytes = x.cols * (int64_t)ace_dtype_block_bytes(table->dtype);
    h.per_task = cpu_max(1, TASK_BYTES / (row_bytes * CPU_DOTS)) * CPU_DOTS;
    cpu_run(dev, cpu_divide_up(y.cols, h.per_task), head_task, &h);
}
