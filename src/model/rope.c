#include "model/rope.h"

#include <math.h>

/* Rows computed on the host at a time. */
enum { ROPE_ROWS = 256 };

/* The reference's frequency, rounded where it rounds: the power, then its reciprocal, both float32. */
static float rope_frequency(int i, int head_dim, double theta)
{
    float exponent = (float)(2 * i) / (float)head_dim;
    return 1.0f / (float)pow(theta, (double)exponent);
}

static void rope_row(float *row, int64_t position, int head_dim, double theta)
{
    int half = head_dim / 2;
    for (int i = 0; i < half; i++) {
        float angle = (float)position * rope_frequency(i, head_dim, theta);
        row[i] = (float)cos((double)angle);
        row[half + i] = (float)sin((double)angle);
    }
}

ace_mat rope_table(ace_device *dev, int64_t positions, int head_dim, double theta)
{
    ace_mat table = ace_scratch(dev, ACE_F32, positions, head_dim);
    ace_mark mark = ace_scratch_mark(dev);
    int64_t block = positions < ROPE_ROWS ? positions : ROPE_ROWS;
    float *rows = ace_scratch_host(dev, block * head_dim);

    for (int64_t first = 0; rows && first < positions; first += block) {
        int64_t count = positions - first < block ? positions - first : block;
        for (int64_t p = 0; p < count; p++) rope_row(rows + p * head_dim, first + p, head_dim, theta);
        ace_upload(dev, ace_rows(table, first, count), rows);
    }
    ace_scratch_release(dev, mark);
    return table;
}
