#include "model/vae_weights.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MAX_NAME = 128,
    MAX_STRIDE = 1 << 10,
    MAX_HOP = 1 << 20,
    MAX_WIDTH = 1 << 16 /* with the limits of a run (vae.c) no product of sizes can overflow */
};

bool vae_config_check(const vae_config *config, ace_error *error)
{
    if (config->blocks < 1 || config->blocks > CONFIG_MAX_VAE_BLOCKS)
        return ace_fail(error, ACE_ERROR_MODEL, "the VAE's config has %d blocks; 1 to %d are possible", config->blocks,
                        CONFIG_MAX_VAE_BLOCKS);
    if (config->hidden < 1 || config->hidden > MAX_WIDTH || config->audio_channels < 1 ||
        config->audio_channels > MAX_WIDTH || config->latent_channels < 1 || config->latent_channels > MAX_WIDTH)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the VAE's config has impossible widths: %d audio, %d latent and %d hidden channels",
                        config->audio_channels, config->latent_channels, config->hidden);
    int64_t hop = 1;
    for (int i = 0; i < config->blocks; i++) {
        int stride = config->strides[i], multiple = config->multiples[i];
        if (stride < 2 || stride % 2 != 0 || stride > MAX_STRIDE || (hop *= stride) > MAX_HOP)
            return ace_fail(error, ACE_ERROR_MODEL,
                            "the VAE's config has stride %d in block %d: strides must be even, and their product at "
                            "most %d",
                            stride, i, MAX_HOP);
        if (multiple < 1 || (int64_t)multiple * config->hidden > MAX_WIDTH)
            return ace_fail(error, ACE_ERROR_MODEL, "the VAE's config has channel multiple %d in block %d", multiple,
                            i);
    }
    return true;
}

/* ---- finding tensors ----------------------------------------------------------------------------------------- */

/* A weight-normalised kernel v with its gains g, or a plain one: g is NULL. */
typedef struct kernel {
    const ace_tensor *v, *g;
} kernel;

static const ace_tensor *find(const ace_weight_set *set, const char *module, const char *suffix)
{
    char name[MAX_NAME];
    snprintf(name, sizeof name, "%s%s", module, suffix);
    return part_find(set->part, name);
}

static bool incomplete(ace_error *error, const ace_weight_set *set, const char *module, const char *suffix)
{
    return ace_fail(error, ACE_ERROR_MODEL, "%s has no tensor %s%s: the VAE is incomplete, download it again",
                    part_path(set->part), module, suffix);
}

/* Block formats cannot be read at the odd offsets of a kernel; no VAE is published in one. */
static bool check_tensor(const ace_tensor *t, bool shape_fits, const char *wanted, ace_error *error)
{
    if (!shape_fits)
        return ace_fail(error, ACE_ERROR_MODEL, "%s: tensor %s has %lld values in %d dimensions, not %s", t->path,
                        t->name, (long long)t->count, t->rank, wanted);
    if (ace_dtype_block(t->dtype) != 1)
        return ace_fail(error, ACE_ERROR_MODEL, "%s: tensor %s is %s; a VAE must be F32, F16 or BF16", t->path, t->name,
                        ace_dtype_name(t->dtype));
    return true;
}

static bool find_vector(const ace_weight_set *set, const char *module, const char *suffix, int64_t n,
                        const ace_tensor **tensor, ace_error *error)
{
    const ace_tensor *t = find(set, module, suffix);
    if (!t) return incomplete(error, set, module, suffix);
    char wanted[MAX_NAME];
    snprintf(wanted, sizeof wanted, "%lld", (long long)n);
    *tensor = t;
    return check_tensor(t, t->count == n, wanted, error);
}

/* A kernel of shape [a, b, taps] in any of the ways in which torch stores one. */
static bool find_kernel(const ace_weight_set *set, const char *module, int64_t a, int64_t b, int64_t taps, kernel *k,
                        ace_error *error)
{
    static const char *const ways[][2] = {
        {".weight_v", ".weight_g"},
        {".parametrizations.weight.original1", ".parametrizations.weight.original0"},
        {".weight", NULL},
    };
    *k = (kernel){0};
    const char *gain = NULL;
    for (int i = 0; i < 3 && !k->v; i++) {
        k->v = find(set, module, ways[i][0]);
        gain = ways[i][1];
    }
    if (!k->v) return incomplete(error, set, module, ways[0][0]);
    const int64_t *shape = k->v->shape;
    char wanted[MAX_NAME];
    snprintf(wanted, sizeof wanted, "[%lld, %lld, %lld]", (long long)a, (long long)b, (long long)taps);
    if (!check_tensor(k->v, k->v->rank == 3 && shape[0] == a && shape[1] == b && shape[2] == taps, wanted, error))
        return false;
    return !gain || find_vector(set, module, gain, a, &k->g, error);
}

/* ---- weight norm --------------------------------------------------------------------------------------------- */

/* The factor g[i] / |v[i]| that makes slice i of the first dimension of v a slice of the weight. `slice` holds its
 * values. The norm is summed in float64. */
static bool slice_scale(const kernel *k, int64_t i, const float *slice, int64_t count, double *scale, ace_error *error)
{
    *scale = 1;
    if (!k->g) return true;
    float gain;
    if (!tensor_read(k->g, i, 1, &gain, error)) return false;
    double sum = 0;
    for (int64_t j = 0; j < count; j++) sum += (double)slice[j] * slice[j];
    if (sum == 0)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "%s: tensor %s is zero throughout [%lld], so its weight norm is undefined: the file is "
                        "damaged, download it again",
                        k->v->path, k->v->name, (long long)i);
    *scale = gain / sqrt(sum);
    return true;
}

static void store(void *rows, ace_dtype dtype, int64_t i, double value)
{
    if (dtype == ACE_F32)
        ((float *)rows)[i] = (float)value;
    else
        ((uint16_t *)rows)[i] = ace_f32_to_bf16((float)value);
}

typedef struct conv_reader {
    kernel kernel;
    int64_t in, taps;
} conv_reader;

/* Row o of a Conv1d: slice v[o] of [in][tap] becomes [tap][in]. */
static bool read_conv(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const conv_reader *r = context;
    int64_t k = r->in * r->taps;
    float *slice = ace_calloc((size_t)k, sizeof *slice, "a convolution's kernel", error);
    bool ok = slice != NULL;
    for (int64_t row = 0; ok && row < count; row++) {
        double scale;
        ok = tensor_read(r->kernel.v, (first + row) * k, k, slice, error) &&
             slice_scale(&r->kernel, first + row, slice, k, &scale, error);
        for (int64_t tap = 0; ok && tap < r->taps; tap++)
            for (int64_t c = 0; c < r->in; c++)
                store(rows, dtype, row * k + tap * r->in + c, slice[c * r->taps + tap] * scale);
    }
    free(slice);
    return ok;
}

typedef struct transposed_reader {
    kernel kernel;
    int64_t in, out, stride;
    double *scales; /* of each input channel: the norm runs over outputs and taps */
} transposed_reader;

/* Rows phase * out + o of a ConvTranspose1d v[in][out][2 * stride]: tap 0 reads the earlier input, with the later half
 * of the kernel. Rows of one phase are gathered together, because their values lie together for each input. */
static bool read_transposed(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    enum { GROUP = 64 };
    const transposed_reader *r = context;
    int64_t taps = 2 * r->stride;
    float *values = ace_calloc(GROUP * (size_t)taps, sizeof *values, "a convolution's kernel", error);
    if (!values) return false;
    bool ok = true;
    for (int64_t row = 0, group; ok && row < count; row += group) {
        int64_t phase = (first + row) / r->out, o = (first + row) % r->out;
        group = count - row < GROUP ? count - row : GROUP;
        if (group > r->out - o) group = r->out - o;
        for (int64_t c = 0; ok && c < r->in; c++) {
            ok = tensor_read(r->kernel.v, (c * r->out + o) * taps, group * taps, values, error);
            for (int64_t i = 0; ok && i < group; i++) {
                const float *kernel_taps = values + i * taps;
                int64_t at = (row + i) * 2 * r->in + c;
                store(rows, dtype, at, kernel_taps[phase + r->stride] * r->scales[c]);
                store(rows, dtype, at + r->in, kernel_taps[phase] * r->scales[c]);
            }
        }
    }
    free(values);
    return ok;
}

/* Reads v once to find the scale of every input channel. */
static bool transposed_scales(transposed_reader *r, ace_error *error)
{
    int64_t count = r->out * 2 * r->stride;
    float *slice = ace_calloc((size_t)count, sizeof *slice, "a convolution's kernel", error);
    bool ok = slice != NULL;
    for (int64_t c = 0; ok && c < r->in; c++)
        ok = tensor_read(r->kernel.v, c * count, count, slice, error) &&
             slice_scale(&r->kernel, c, slice, count, &r->scales[c], error);
    free(slice);
    return ok;
}

/* ---- vectors ------------------------------------------------------------------------------------------------- */

typedef enum vector_form { VECTOR_PLAIN, VECTOR_EXP, VECTOR_INVERSE_EXP } vector_form;

typedef struct vector_reader {
    const ace_tensor *tensor;
    vector_form form;
} vector_reader;

/* Element i of a vector that repeats the tensor. */
static bool read_vector(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const vector_reader *r = context;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = (first + i) % r->tensor->count;
        float value;
        if (!tensor_read(r->tensor, at, 1, &value, error)) return false;
        double transformed = r->form == VECTOR_PLAIN ? value
                             : r->form == VECTOR_EXP ? exp(value)
                                                     : 1 / (exp(value) + 1e-9);
        if (!isfinite((float)transformed))
            return ace_fail(error, ACE_ERROR_MODEL,
                            "%s: tensor %s has %g at [%lld], whose exponential is not finite: the file is damaged, "
                            "download it again",
                            r->tensor->path, r->tensor->name, (double)value, (long long)at);
        store(rows, dtype, i, transformed);
    }
    return true;
}

static ace_weight *load_vector(ace_weight_set *set, int64_t n, int phases, vector_form form, const char *module,
                               const char *suffix)
{
    ace_error error = {0};
    vector_reader reader = {.form = form};
    if (!find_vector(set, module, suffix, n, &reader.tensor, &error)) {
        ace_device_fail(set->dev, &error);
        return NULL;
    }
    ace_weight_desc desc = {.kind = ACE_WEIGHT_VECTOR, .name = reader.tensor->name, .n = n * phases, .k = 1, .taps = 1};
    return weights_from_reader(set, &desc, read_vector, &reader);
}

/* ---- modules ------------------------------------------------------------------------------------------------- */

vae_conv vae_load_conv(ace_weight_set *set, int64_t out, int64_t in, int taps, bool bias, const char *name)
{
    ace_error error = {0};
    vae_conv conv = {0};
    conv_reader reader = {.in = in, .taps = taps};
    if (!find_kernel(set, name, out, in, taps, &reader.kernel, &error)) {
        ace_device_fail(set->dev, &error);
        return conv;
    }
    ace_weight_desc desc = {
        .kind = ACE_WEIGHT_PRODUCT, .name = reader.kernel.v->name, .n = out, .k = in * taps, .taps = taps};
    conv.weight = weights_from_reader(set, &desc, read_conv, &reader);
    if (bias) conv.bias = load_vector(set, out, 1, VECTOR_PLAIN, name, ".bias");
    return conv;
}

vae_conv vae_load_transposed(ace_weight_set *set, int64_t in, int64_t out, int stride, const char *name)
{
    ace_error error = {0};
    vae_conv conv = {0};
    transposed_reader reader = {.in = in, .out = out, .stride = stride};
    reader.scales = ace_calloc((size_t)in, sizeof *reader.scales, "a convolution's kernel", &error);
    bool ok = reader.scales && find_kernel(set, name, in, out, 2 * stride, &reader.kernel, &error) &&
              (ace_device_is_meter(set->dev) || transposed_scales(&reader, &error));
    if (ok) {
        ace_weight_desc desc = {
            .kind = ACE_WEIGHT_PRODUCT, .name = reader.kernel.v->name, .n = stride * out, .k = 2 * in, .taps = 2};
        conv.weight = weights_from_reader(set, &desc, read_transposed, &reader);
        conv.bias = load_vector(set, out, stride, VECTOR_PLAIN, name, ".bias");
    } else {
        ace_device_fail(set->dev, &error);
    }
    free(reader.scales);
    return conv;
}

ace_snake_weights vae_load_snake(ace_weight_set *set, int64_t channels, int phases, const char *name)
{
    return (ace_snake_weights){
        .alpha = load_vector(set, channels, phases, VECTOR_EXP, name, ".alpha"),
        .inv_beta = load_vector(set, channels, phases, VECTOR_INVERSE_EXP, name, ".beta"),
    };
}

void vae_load_units(ace_weight_set *set, vae_unit units[VAE_UNITS], int64_t channels, int phases, const char *block)
{
    for (int j = 0; j < VAE_UNITS; j++) {
        char name[MAX_NAME];
        snprintf(name, sizeof name, "%.80s.res_unit%d.snake1", block, j + 1);
        units[j].snake1 = vae_load_snake(set, channels, j == 0 ? phases : 1, name);
        snprintf(name, sizeof name, "%.80s.res_unit%d.conv1", block, j + 1);
        units[j].conv1 = vae_load_conv(set, channels, channels, 7, true, name);
        snprintf(name, sizeof name, "%.80s.res_unit%d.snake2", block, j + 1);
        units[j].snake2 = vae_load_snake(set, channels, 1, name);
        snprintf(name, sizeof name, "%.80s.res_unit%d.conv2", block, j + 1);
        units[j].conv2 = vae_load_conv(set, channels, channels, 1, true, name);
    }
}
