/* How fast a device is, for estimates: a product of the model's kind with many rows, which arithmetic bounds, and one
 * with a single row, which reading the weight bounds; and a part of each of the stages that take longest. */
#include "base/clock.h"
#include "base/dtype.h"
#include "base/error.h"
#include "song/measure_stages.h"

#include <string.h>

enum { WIDTH = 4096, ROWS = 128, RUNS = 3 };

/* Numbers of ordinary size; their values do not matter. */
static bool read_ones(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    (void)context, (void)first, (void)error;
    float *values = rows;
    uint16_t *halves = rows;
    if (dtype == ACE_F32)
        for (int64_t i = 0; i < count * WIDTH; i++) values[i] = 1;
    else
        memset(halves, 0x3f, (size_t)(count * WIDTH) * sizeof *halves);
    return true;
}

/* Seconds of the fastest of a few products. */
static double fastest_product(ace_device *dev, const ace_weight *w, int64_t rows)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat x = ace_scratch(dev, ace_device_act(dev), rows, WIDTH), y = ace_scratch(dev, ACE_F32, rows, WIDTH);
    float *host = ace_scratch_host(dev, rows * WIDTH);
    for (int64_t i = 0; host && i < rows * WIDTH; i++) host[i] = 1;
    if (host) ace_upload(dev, x, host);
    double best = 0;
    float one;
    for (int i = 0, repeats = 1; i < RUNS; i++) {
        double start = ace_clock();
        for (int k = 0; k < repeats; k++) ace_linear(dev, y, x, w, NULL);
        ace_download(dev, host ? &one : NULL, ace_cols(ace_rows(y, 0, 1), 0, 1)); /* a card works on its own: waits */
        double seconds = (ace_clock() - start) / repeats;
        if (i == 0 || seconds < best) best = seconds;
        /* a card is done sooner than it can be asked */
        if (seconds * repeats < 2e-3 && repeats < 256) {
            repeats *= 4;
            i = 0;
        }
    }
    ace_scratch_release(dev, mark);
    return best;
}

static bool measure_products(ace_engine *engine, ace_speed *speed, ace_error *error)
{
    ace_device *dev = engine->dev;
    ace_weight_desc desc = {.kind = ACE_WEIGHT_PRODUCT, .name = "the measurement", .n = WIDTH, .k = WIDTH, .taps = 1};
    size_t host = (size_t)ROWS * WIDTH * sizeof(float), scratch = 3 * host + 1024;
    *speed = (ace_speed){0};
    if (!ace_scratch_reserve(dev, scratch, host, error)) return false;
    double weight_bytes = (double)ace_device_get_stats(dev).weight_bytes, loading = 0;
    ace_weight *w = NULL;
    for (int i = 0; i < RUNS; i++) {
        ace_weight_free(dev, w);
        double start = ace_clock();
        w = ace_weight_new(dev, &desc, read_ones, NULL);
        double seconds = ace_clock() - start;
        if (i == 0 || seconds < loading) loading = seconds;
    }
    weight_bytes = (double)ace_device_get_stats(dev).weight_bytes - weight_bytes;
    double many = fastest_product(dev, w, ROWS), one = fastest_product(dev, w, 1);
    ace_weight_free(dev, w);
    bool ok = ace_device_ok(dev, error);
    ace_device_clear(dev);
    ace_scratch_reserve(dev, 0, 0, NULL);
    if (ok)
        *speed = (ace_speed){
            .flops = 2.0 * WIDTH * WIDTH * ROWS / many, .bytes = weight_bytes / one, .load = weight_bytes / loading};
    return ok;
}

bool ace_measure_speed(ace_engine *engine, double duration, ace_speed *speed, ace_error *error)
{
    if (!measure_products(engine, speed, error)) return false;
    /* Where there is no memory for them, the rate of products stands for these stages, too. */
    ace_error unmeasured = {0};
    speed->diffusion = measure_diffusion(engine, duration, speed->flops, &unmeasured);
    speed->decode = measure_decode(engine, speed->flops, &unmeasured);
    return true;
}

double ace_estimate(const ace_stage_cost *cost, ace_stage stage, const ace_speed *speed)
{
    if (speed->flops <= 0 || stage == ACE_STAGE_LOAD) return -1;
    double loading = cost->bytes_loaded / speed->load;
    if (stage == ACE_STAGE_DIFFUSION && speed->diffusion > 0) return cost->flops / speed->diffusion + loading;
    if (stage == ACE_STAGE_DECODE && speed->decode > 0) return cost->flops / speed->decode + loading;
    double multiplying = cost->flops / speed->flops, reading = cost->bytes_moved / speed->bytes;
    return (multiplying > reading ? multiplying : reading) + loading;
}
