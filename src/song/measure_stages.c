#include "song/measure_stages.h"

#include "base/clock.h"
#include "base/error.h"
#include "model/transformer.h"
#include "model/vae_units.h"

#include <string.h>

enum { RUNS = 3, LATENT_RATE = 25, MOST_FRAMES = 10 /* of the decoder */ };
static const double MOST_SECONDS = 0.25; /* of a run */

/* ---- weights -------------------------------------------------------------------------------------------------------
 */

/* The sizes of numbers, as the exponents of bf16: 0.0078 to 0.031, and 2e-6 to 8e-6, sums of which stay small however
 * often a layer is run on its own result. */
enum { USUAL = 0x3c00, TINY = 0x3600 };

typedef struct source {
    int64_t k;
    uint32_t size;
} source;

/* Numbers of either sign, since those that are equal take less power and so less time; blocks of zeros. */
static bool read_numbers(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const source *of = context;
    float *values = rows;
    uint16_t *halves = rows;
    (void)error;
    if (dtype != ACE_F32 && dtype != ACE_BF16) {
        memset(rows, 0, (size_t)(count * of->k / ace_dtype_block(dtype)) * ace_dtype_block_bytes(dtype));
        return true;
    }
    for (int64_t i = 0; i < count * of->k; i++) {
        uint32_t hash = (uint32_t)(first * of->k + i) * 2654435761u;
        uint16_t half = (uint16_t)((hash >> 16 & 0x80ff) | of->size);
        if (dtype == ACE_F32)
            values[i] = ace_bf16_to_f32(half);
        else
            halves[i] = half;
    }
    return true;
}

static ace_weight *numbers(ace_device *dev, ace_weight_desc desc, uint32_t size)
{
    desc.name = "the measurement";
    if (desc.taps == 0) desc.taps = 1;
    if (desc.form == ACE_FORM_BLOCKS) desc.blocks = ACE_Q8_0;
    return ace_weight_new(dev, &desc, read_numbers, &(source){desc.k, size});
}

static ace_weight *vector(ace_device *dev, int64_t n)
{
    return numbers(dev, (ace_weight_desc){.kind = ACE_WEIGHT_VECTOR, .n = n, .k = 1}, USUAL);
}

/* Fills a matrix; needs room for it on the host. */
static void fill(ace_device *dev, ace_mat x)
{
    ace_mark mark = ace_scratch_mark(dev);
    float *host = ace_scratch_host(dev, x.rows * x.cols);
    ace_error none = {0};
    if (host && read_numbers(&(source){x.cols, USUAL}, 0, x.rows, ACE_F32, host, &none)) ace_upload(dev, x, host);
    ace_scratch_release(dev, mark);
}

/* ---- time ----------------------------------------------------------------------------------------------------------
 */

/* FLOP/s of the usual run, after one that warms up. `wait`: a value that is ready when all is done, since a card works
 * on its own. */
static double rate_of(ace_device *dev, void (*run)(void *context), void *context, ace_mat wait)
{
    double start = 0, before = 0;
    float one;
    for (int i = 0; i <= RUNS; i++) {
        if (i == 1) {
            start = ace_clock();
            before = ace_device_get_stats(dev).flops;
        }
        run(context);
        ace_download(dev, ace_device_ok(dev, NULL) ? &one : NULL, ace_cols(ace_rows(wait, 0, 1), 0, 1));
    }
    double seconds = ace_clock() - start;
    return seconds > 0 ? (ace_device_get_stats(dev).flops - before) / seconds : 0;
}

/* Leaves the device as it was. */
static double finish(ace_device *dev, double rate, ace_error *error)
{
    bool ok = ace_device_ok(dev, error);
    ace_device_clear(dev);
    ace_scratch_reserve(dev, 0, 0, NULL);
    return ok ? rate : 0;
}

/* ---- diffusion -----------------------------------------------------------------------------------------------------
 */

/* So many layers that their weights come from memory, as those of a whole model do, and not from a cache. */
enum { MOST_LAYERS = 12, LAYER_WEIGHTS = 4 };
static const double ALL_LAYERS_BYTES = 512e6;

typedef struct layer {
    ace_weight *weights[LAYER_WEIGHTS];
} layer;

typedef struct layers {
    ace_device *dev;
    const transformer_config *shape;
    layer layers[MOST_LAYERS];
    int count, next;
    ace_weight *norm, *head_norm;
    transformer_branch branch;
    attention_span spans[2];
    ace_mat x;
} layers;

/* Two layers, which see all and which see a band. */
static void run_layers(void *context)
{
    layers *l = context;
    for (int i = 0; i < 2; i++, l->next = (l->next + 1) % l->count) {
        ace_weight *const *w = l->layers[l->next].weights;
        self_attention attention = {w[0], l->head_norm, l->head_norm, w[1]};
        gated_mlp mlp = {w[2], w[3]};
        self_attention_forward(l->dev, &attention, l->shape, &l->branch, l->x, &l->spans[i]);
        gated_mlp_forward(l->dev, &mlp, l->shape, &l->branch, l->x);
    }
}

/* Of two layers, one of which sees all. */
static double flops_of_layers(const transformer_config *s, double tokens)
{
    double q = (double)transformer_q_width(s), kv = (double)transformer_kv_width(s);
    return tokens * 4.0 * (s->hidden * (2 * q + 2 * kv + 3.0 * s->intermediate) + q * tokens);
}

/* As many layers as there is memory for, up to what is wanted. */
static void make_layers(layers *l, ace_weight_form form)
{
    const transformer_config *s = l->shape;
    int64_t q = transformer_q_width(s), kv = transformer_kv_width(s), hidden = s->hidden, inner = s->intermediate;
    double held = (double)ace_device_get_stats(l->dev).weight_bytes, wanted = held + ALL_LAYERS_BYTES;
    while (l->count < MOST_LAYERS && (double)ace_device_get_stats(l->dev).weight_bytes < wanted) {
        const ace_weight_desc wanted_weights[LAYER_WEIGHTS] = {
            {.kind = ACE_WEIGHT_PRODUCT, .n = q + 2 * kv, .k = hidden, .form = form},
            {.kind = ACE_WEIGHT_PRODUCT, .n = hidden, .k = q, .form = form},
            {.kind = ACE_WEIGHT_GATED, .n = 2 * inner, .k = hidden, .form = form},
            {.kind = ACE_WEIGHT_PRODUCT, .n = hidden, .k = inner, .form = form}};
        layer made;
        for (int i = 0; i < LAYER_WEIGHTS; i++) made.weights[i] = numbers(l->dev, wanted_weights[i], USUAL);
        if (!ace_device_ok(l->dev, NULL)) {
            for (int i = 0; i < LAYER_WEIGHTS; i++) ace_weight_free(l->dev, made.weights[i]);
            if (l->count > 0) ace_device_clear(l->dev);
            return;
        }
        l->layers[l->count++] = made;
    }
}

double measure_diffusion(ace_engine *engine, double duration, double usual, ace_error *error)
{
    const dit_config *config = &engine->checkpoint->dit;
    const transformer_config *s = &config->dit;
    ace_device *dev = engine->dev;
    double wanted = duration * LATENT_RATE / config->patch_size;
    while (wanted > 16 && flops_of_layers(s, wanted) > MOST_SECONDS * usual) wanted *= 0.8;
    int64_t tokens = wanted > 16 ? (int64_t)wanted : 16;
    int64_t q = transformer_q_width(s), kv = transformer_kv_width(s), hidden = s->hidden, inner = s->intermediate;
    /* float32 at most, several at a time, and what products need on top */
    size_t host = (size_t)(tokens * hidden) * sizeof(float) + 1024;
    size_t scratch = (size_t)(tokens * (4 * hidden + 4 * q + 4 * kv + 2 * inner)) * sizeof(float) + ((size_t)64 << 20);
    if (!ace_scratch_reserve(dev, scratch, host, error)) return 0;
    layers l = {.dev = dev,
                .shape = s,
                .norm = vector(dev, hidden),
                .head_norm = vector(dev, s->head_dim),
                .spans = {{.items = 1, .length = tokens, .mask = ACE_MASK_FULL},
                          {.items = 1, .length = tokens, .mask = ACE_MASK_BAND, .radius = config->sliding_window}}};
    make_layers(&l, engine->form);
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat row = ace_scratch(dev, ACE_F32, 1, hidden);
    l.branch = (transformer_branch){l.norm, row, row, row};
    l.x = ace_scratch(dev, ACE_F32, tokens, hidden);
    fill(dev, row);
    fill(dev, l.x);
    double rate = ace_device_ok(dev, NULL) ? rate_of(dev, run_layers, &l, l.x) : 0;
    ace_scratch_release(dev, mark);
    for (int i = 0; i < l.count; i++)
        for (int j = 0; j < LAYER_WEIGHTS; j++) ace_weight_free(dev, l.layers[i].weights[j]);
    ace_weight_free(dev, l.norm);
    ace_weight_free(dev, l.head_norm);
    return finish(dev, rate, error);
}

/* ---- decoding ------------------------------------------------------------------------------------------------------
 */

enum { LEVELS = CONFIG_MAX_VAE_BLOCKS, UNIT_WEIGHTS = 6 };

/* A unit of a width, which stands for all three of a block. */
typedef struct level {
    int64_t width, positions;
    ace_weight *weights[UNIT_WEIGHTS];
    vae_unit units[VAE_UNITS];
} level;

typedef struct decoder {
    ace_device *dev;
    level levels[LEVELS];
    int count;
    vae_buffers buffers;
} decoder;

static void run_units(void *context)
{
    const decoder *d = context;
    for (int i = 0; i < d->count; i++) {
        const level *at = &d->levels[i];
        vae_span spans[VAE_UNITS + 1];
        for (int j = 0; j <= VAE_UNITS; j++) spans[j] = (vae_span){0, at->positions};
        vae_units_run(d->dev, at->units, spans, vae_view(d->buffers.residual, at->positions, at->width),
                      vae_view(d->buffers.active, at->positions, at->width), &d->buffers, &at->units[0].snake1);
    }
}

static void make_level(ace_device *dev, level *at)
{
    int64_t n = at->width;
    ace_weight *made[UNIT_WEIGHTS] = {
        numbers(dev, (ace_weight_desc){.kind = ACE_WEIGHT_PRODUCT, .n = n, .k = 7 * n, .taps = 7}, TINY),
        numbers(dev, (ace_weight_desc){.kind = ACE_WEIGHT_PRODUCT, .n = n, .k = n}, TINY)};
    for (int i = 2; i < UNIT_WEIGHTS; i++) made[i] = vector(dev, n);
    memcpy(at->weights, made, sizeof made);
    ace_snake_weights snake = {made[4], made[5]};
    for (int j = 0; j < VAE_UNITS; j++)
        at->units[j] = (vae_unit){.snake1 = snake,
                                  .snake2 = snake,
                                  .conv1 = {.weight = made[0], .bias = made[2]},
                                  .conv2 = {.weight = made[1], .bias = made[3]}};
}

/* The widths of the blocks, and their positions in a latent frame. Returns the work of a frame. */
static double describe_levels(decoder *d, const vae_config *config)
{
    double flops = 0;
    d->count = config->blocks;
    for (int64_t i = 0, positions = 1; i < d->count; i++) {
        int64_t width = vae_width(config, (int)(d->count - i - 1));
        positions *= vae_decoder_stride(config, (int)i);
        d->levels[i] = (level){.width = width, .positions = positions};
        flops += 2.0 * VAE_UNITS * (7 + 1) * (double)(positions * width) * (double)width;
    }
    return flops;
}

double measure_decode(ace_engine *engine, double usual, ace_error *error)
{
    decoder d = {.dev = engine->dev};
    vae_sizes sizes = {0};
    double most = MOST_SECONDS * usual / describe_levels(&d, &engine->checkpoint->vae);
    int64_t frames = most > MOST_FRAMES ? MOST_FRAMES : most > 1 ? (int64_t)most : 1;
    for (int i = 0; i < d.count; i++) {
        d.levels[i].positions *= frames;
        vae_grow(&sizes.residual, d.levels[i].positions, d.levels[i].width);
    }
    sizes.active = sizes.spare = sizes.residual;
    size_t host = (size_t)sizes.residual * sizeof(float) + 1024;
    if (!ace_scratch_reserve(d.dev, 3 * host + ((size_t)1 << 20), host, error)) return 0;
    for (int i = 0; i < d.count; i++) make_level(d.dev, &d.levels[i]);
    ace_mark mark = ace_scratch_mark(d.dev);
    d.buffers = vae_buffers_new(d.dev, &sizes);
    fill(d.dev, d.buffers.residual);
    fill(d.dev, d.buffers.active);
    double rate = ace_device_ok(d.dev, NULL) ? rate_of(d.dev, run_units, &d, d.buffers.residual) : 0;
    ace_scratch_release(d.dev, mark);
    for (int i = 0; i < d.count; i++)
        for (int j = 0; j < UNIT_WEIGHTS; j++) ace_weight_free(d.dev, d.levels[i].weights[j]);
    return finish(d.dev, rate, error);
}
