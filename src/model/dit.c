#include "model/dit.h"

#include "base/error.h"
#include "base/memory.h"
#include "model/rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Sinusoids of the time embedding: half cosines, half sines. */
enum { TIME_CHANNELS = 256 };

/* ---- loading (dit.md 1.6) ------------------------------------------------------------------------------------ */

/* A patch is read and written as one row: patch_size frames one after the other. The convolutions that do this in the
 * reference keep the tap last, so their weights are repacked into Linears. */
typedef struct patch_shape {
    int64_t hidden, channels, taps;
} patch_shape;

typedef void patch_packer(float *packed, const float *values, const patch_shape *shape);

/* Conv1d [hidden][channels][taps] to [hidden][taps][channels]. */
static void pack_proj_in(float *packed, const float *values, const patch_shape *s)
{
    for (int64_t h = 0; h < s->hidden; h++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t k = 0; k < s->taps; k++)
                packed[(h * s->taps + k) * s->channels + c] = values[(h * s->channels + c) * s->taps + k];
}

/* ConvTranspose1d [hidden][channels][taps] to [taps][channels][hidden]. */
static void pack_proj_out(float *packed, const float *values, const patch_shape *s)
{
    for (int64_t h = 0; h < s->hidden; h++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t k = 0; k < s->taps; k++)
                packed[(k * s->channels + c) * s->hidden + h] = values[(h * s->channels + c) * s->taps + k];
}

/* The bias [channels] of a frame, once for each frame of the patch. */
static void pack_proj_out_bias(float *packed, const float *values, const patch_shape *s)
{
    for (int64_t k = 0; k < s->taps; k++)
        memcpy(packed + k * s->channels, values, (size_t)s->channels * sizeof *packed);
}

/* The weight `desc`, named and made from `tensor` by `packer`. */
static ace_weight *load_packed(ace_weight_set *set, const ace_tensor *tensor, ace_weight_desc desc,
                               patch_packer *packer, const patch_shape *shape)
{
    if (!tensor) return NULL;
    desc.name = tensor->name;
    if (ace_device_is_meter(set->dev)) return weights_from_host(set, &desc, NULL);

    ace_error error = {0};
    ace_weight *weight = NULL;
    float *values = ace_calloc((size_t)tensor->count, sizeof *values, tensor->name, &error);
    float *packed = ace_calloc((size_t)(desc.n * desc.k), sizeof *packed, tensor->name, &error);
    if (values && packed && tensor_read(tensor, 0, tensor->count, values, &error)) {
        packer(packed, values, shape);
        weight = weights_from_host(set, &desc, packed);
    } else {
        ace_device_fail(set->dev, &error);
    }
    free(packed);
    free(values);
    return weight;
}

static void load_patches(dit *model, ace_weight_set *set)
{
    const dit_config *config = &model->config;
    int64_t hidden = config->dit.hidden, taps = config->patch_size;
    patch_shape in = {hidden, config->in_channels, taps}, out = {hidden, config->latent_channels, taps};
    ace_weight_desc in_desc = {.kind = ACE_WEIGHT_PRODUCT, .n = hidden, .k = taps * in.channels, .taps = 1};
    ace_weight_desc out_desc = {.kind = ACE_WEIGHT_PRODUCT, .n = taps * out.channels, .k = hidden, .taps = 1};
    ace_weight_desc bias_desc = {.kind = ACE_WEIGHT_VECTOR, .n = taps * out.channels, .k = 1, .taps = 1};

    model->proj_in = load_packed(
        set, weights_tensor(set, "decoder.proj_in.1.weight", 3, (const int64_t[]){hidden, in.channels, taps}), in_desc,
        pack_proj_in, &in);
    model->proj_in_bias = weights_vector(set, hidden, "decoder.proj_in.1.bias");
    model->proj_out = load_packed(
        set, weights_tensor(set, "decoder.proj_out.1.weight", 3, (const int64_t[]){hidden, out.channels, taps}),
        out_desc, pack_proj_out, &out);
    model->proj_out_bias = load_packed(set, weights_tensor(set, "decoder.proj_out.1.bias", 1, &out.channels), bias_desc,
                                       pack_proj_out_bias, &out);
}

static void load_time_embedding(dit_time_embedding *time, ace_weight_set *set, const char *prefix, int64_t hidden)
{
    char name[96];
#define TENSOR(suffix) (snprintf(name, sizeof name, "%s%s", prefix, suffix), name)
    time->linear_1 = weights_linear(set, hidden, TIME_CHANNELS, TENSOR("linear_1.weight"));
    time->bias_1 = weights_vector(set, hidden, TENSOR("linear_1.bias"));
    time->linear_2 = weights_linear(set, hidden, hidden, TENSOR("linear_2.weight"));
    time->bias_2 = weights_vector(set, hidden, TENSOR("linear_2.bias"));
    time->proj = weights_linear(set, 6 * hidden, hidden, TENSOR("time_proj.weight"));
    time->proj_bias = weights_vector(set, 6 * hidden, TENSOR("time_proj.bias"));
#undef TENSOR
}

/* "<prefix><name>.weight" */
#define CROSS_TENSOR(name) (snprintf(tensor, sizeof tensor, "%s" name ".weight", prefix), tensor)

/* What makes keys and values of the condition. */
static void load_cross_condition(cross_attention *cross, ace_weight_set *set, const char *prefix,
                                 const transformer_config *shape)
{
    int64_t kv = transformer_kv_width(shape);
    char tensor[128], values[128];
    snprintf(values, sizeof values, "%sv_proj.weight", prefix);
    cross->kv = weights_linear_stack(set, shape->hidden,
                                     (const ace_linear_part[]){{CROSS_TENSOR("k_proj"), kv}, {values, kv}}, 2);
    cross->k_norm = weights_vector(set, shape->head_dim, CROSS_TENSOR("k_norm"));
}

/* What makes queries of the song, and the sum. */
static void load_cross_attention(cross_attention *cross, ace_weight_set *set, const char *prefix,
                                 const transformer_config *shape)
{
    int64_t q = transformer_q_width(shape);
    char tensor[128];
    cross->q = weights_linear(set, q, shape->hidden, CROSS_TENSOR("q_proj"));
    cross->q_norm = weights_vector(set, shape->head_dim, CROSS_TENSOR("q_norm"));
    cross->output = weights_linear(set, shape->hidden, q, CROSS_TENSOR("o_proj"));
}
#undef CROSS_TENSOR

static void load_condition_part(dit_layer *layer, ace_weight_set *set, const transformer_config *shape, int i)
{
    char prefix[96];
    snprintf(prefix, sizeof prefix, "decoder.layers.%d.cross_attn.", i);
    load_cross_condition(&layer->cross, set, prefix, shape);
}

static void load_layer(dit_layer *layer, ace_weight_set *set, const transformer_config *shape, int i)
{
    char name[96];
#define TENSOR(suffix) (snprintf(name, sizeof name, "decoder.layers.%d.%s", i, suffix), name)
    layer->modulation = weights_vector(set, 6 * (int64_t)shape->hidden, TENSOR("scale_shift_table"));
    layer->self_norm = weights_vector(set, shape->hidden, TENSOR("self_attn_norm.weight"));
    self_attention_load(&layer->self, set, TENSOR("self_attn."), shape);
    layer->cross_norm = weights_vector(set, shape->hidden, TENSOR("cross_attn_norm.weight"));
    load_cross_attention(&layer->cross, set, TENSOR("cross_attn."), shape);
    layer->mlp_norm = weights_vector(set, shape->hidden, TENSOR("mlp_norm.weight"));
    gated_mlp_load(&layer->mlp, set, TENSOR("mlp."), shape);
#undef TENSOR
}

void dit_load(dit *model, ace_device *dev, const ace_part *part, const dit_config *config, const layer_storage *storage)
{
    *model = (dit){.config = *config};
    if (storage) model->storage = *storage;
    ace_weight_set *set = &model->weights;
    const transformer_config *shape = &config->dit;
    int64_t hidden = shape->hidden, encoder_hidden = config->encoder.hidden;
    weights_begin(set, dev, part);

    load_patches(model, set);
    load_time_embedding(&model->time, set, "decoder.time_embed.", hidden);
    load_time_embedding(&model->time_r, set, "decoder.time_embed_r.", hidden);
    model->condition_embedder = weights_linear(set, hidden, encoder_hidden, "decoder.condition_embedder.weight");
    model->condition_bias = weights_vector(set, hidden, "decoder.condition_embedder.bias");
    set->form = model->storage.form;
    for (int i = 0; i < shape->layers && !model->storage.streamed; i++) {
        load_layer(&model->layers[i], set, shape, i);
        load_condition_part(&model->layers[i], set, shape, i);
    }
    set->form = ACE_FORM_PLAIN;
    model->norm_out = weights_vector(set, hidden, "decoder.norm_out.weight");
    model->modulation_out = weights_vector(set, 2 * hidden, "decoder.scale_shift_table");
    model->null_condition = weights_table(set, 1, encoder_hidden, "null_condition_emb");
}

void dit_free(dit *model)
{
    weights_free(&model->weights);
}

/* ---- streaming ----------------------------------------------------------------------------------------------- */

/* A layer for a moment: one that is there, or one that was loaded for it, into the memory of the one before. */
typedef struct held_layer {
    const dit_layer *layer; /* NULL when it could not be loaded */
    dit_layer loaded;
    ace_weight_set set;
} held_layer;

/* What of a layer is needed. */
typedef void layer_loader(dit_layer *layer, ace_weight_set *set, const transformer_config *shape, int i);

/* Zero-initialise for the first layer; let_go() is due after the last. */
static void hold_layer(held_layer *held, const dit *model, int i, layer_loader *loader)
{
    const ace_weight_set *fixed = &model->weights;
    held->layer = &model->layers[i];
    if (!model->storage.streamed) return;
    if (!held->set.dev) weights_begin(&held->set, fixed->dev, fixed->part);
    weights_again(&held->set);
    held->loaded = (dit_layer){0};
    held->set.use = WEIGHTS_PASSING;
    held->set.form = model->storage.form;
    loader(&held->loaded, &held->set, &model->config.dit, i);
    held->layer = ace_device_ok(fixed->dev, NULL) ? &held->loaded : NULL;
    if (i + 1 < model->config.dit.layers && !ace_device_is_meter(fixed->dev)) {
        dit_layer unused;
        ace_weight_set ahead;
        weights_begin(&ahead, fixed->dev, fixed->part);
        ahead.use = WEIGHTS_AHEAD;
        loader(&unused, &ahead, &model->config.dit, i + 1);
    }
}

static void let_go(held_layer *held)
{
    weights_free(&held->set);
}

/* ---- the schedule's modulations (dit.md 5.4) ----------------------------------------------------------------- */

/* Cosines, then sines, of 1000 t * 10000^(-i / 128): float32 where the reference is, since the rounding of an angle
 * near 1000 shows. */
static void time_sinusoids(float *row, float timestep)
{
    enum { HALF = TIME_CHANNELS / 2 };
    float argument = 1000.0f * timestep;
    for (int i = 0; i < HALF; i++) {
        float frequency = (float)exp((double)(-9.210340371976184f * (float)i / (float)HALF));
        float angle = argument * frequency;
        row[i] = (float)cos((double)angle);
        row[HALF + i] = (float)sin((double)angle);
    }
}

/* The columns of a schedule's rows. */
static int64_t schedule_width(const dit *model)
{
    return 7 * (int64_t)model->config.dit.hidden;
}

static ace_mat modulation_of(const dit *model, ace_mat rows)
{
    return ace_cols(rows, 0, 6 * (int64_t)model->config.dit.hidden);
}

static ace_mat temb_of(const dit *model, ace_mat rows)
{
    return ace_cols(rows, 6 * (int64_t)model->config.dit.hidden, model->config.dit.hidden);
}

/* proj and temb of the timesteps (host; NULL on the meter), a row each. */
static void embed_time(const dit *model, const dit_time_embedding *time, ace_mat rows, const float *timesteps)
{
    ace_device *dev = model->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    ace_dtype act = ace_device_act(dev);
    ace_mat temb = temb_of(model, rows), proj = modulation_of(model, rows);
    ace_mat sinusoids = ace_scratch(dev, act, temb.rows, TIME_CHANNELS);
    ace_mat hidden = ace_scratch(dev, act, temb.rows, temb.cols);
    float *host = ace_scratch_host(dev, temb.rows * TIME_CHANNELS);

    for (int64_t i = 0; host && i < temb.rows; i++) time_sinusoids(host + i * TIME_CHANNELS, timesteps[i]);
    ace_upload(dev, sinusoids, host);
    ace_linear(dev, hidden, sinusoids, time->linear_1, &(ace_epilogue){.bias = time->bias_1, .silu = true});
    ace_linear(dev, temb, hidden, time->linear_2, &(ace_epilogue){.bias = time->bias_2});
    ace_silu(dev, hidden, temb);
    ace_linear(dev, proj, hidden, time->proj, &(ace_epilogue){.bias = time->proj_bias});
    ace_scratch_release(dev, mark);
}

dit_schedule dit_schedule_new(const dit *model, const float *timesteps, int64_t count)
{
    ace_device *dev = model->weights.dev;
    dit_schedule schedule = {count, ace_scratch(dev, ACE_F32, count, schedule_width(model))};
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat of_zero = ace_scratch(dev, ACE_F32, 1, schedule_width(model));

    embed_time(model, &model->time, schedule.rows, timesteps);
    /* r = t in inference: the second embedder always sees 0, and what it makes of 0 is not nothing */
    embed_time(model, &model->time_r, of_zero, &(const float){0});
    ace_add(dev, schedule.rows, schedule.rows, of_zero);
    ace_scratch_release(dev, mark);
    return schedule;
}

/* ---- the condition's keys and values (dit.md 5.3) ------------------------------------------------------------ */

static dit_condition condition_room(const dit *model, int64_t length)
{
    const transformer_config *shape = &model->config.dit;
    ace_device *dev = model->weights.dev;
    return (dit_condition){
        length, ace_scratch(dev, ace_device_act(dev), shape->layers * length, 2 * transformer_kv_width(shape))};
}

static void fill_condition(const dit *model, const dit_condition *condition, ace_mat enc)
{
    const transformer_config *shape = &model->config.dit;
    ace_device *dev = model->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat embedded = ace_scratch(dev, ace_device_act(dev), enc.rows, shape->hidden);

    ace_linear(dev, embedded, enc, model->condition_embedder, &(ace_epilogue){.bias = model->condition_bias});
    held_layer held = {0};
    for (int i = 0; i < shape->layers; i++) {
        hold_layer(&held, model, i, load_condition_part);
        ace_mat kv = ace_rows(condition->kv, i * condition->length, condition->length);
        ace_mat keys = ace_cols(kv, 0, transformer_kv_width(shape));
        if (held.layer) {
            const cross_attention *cross = &held.layer->cross;
            ace_linear(dev, kv, embedded, cross->kv, NULL);
            ace_head_norm_rope(dev, keys, shape->head_dim, cross->k_norm, shape->rms_norm_eps, (ace_mat){0}, 0);
        }
    }
    let_go(&held);
    ace_scratch_release(dev, mark);
}

dit_condition dit_condition_new(const dit *model, ace_mat enc)
{
    dit_condition condition = condition_room(model, enc.rows);
    fill_condition(model, &condition, enc);
    return condition;
}

dit_condition dit_null_condition_new(const dit *model)
{
    static const int32_t first_row = 0;
    ace_device *dev = model->weights.dev;
    dit_condition condition = condition_room(model, 1);
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat enc = ace_scratch(dev, ace_device_act(dev), 1, model->config.encoder.hidden);

    ace_embed(dev, enc, model->null_condition, &first_row, 1);
    fill_condition(model, &condition, enc);
    ace_scratch_release(dev, mark);
    return condition;
}

/* ---- the context (dit.md 5.2) -------------------------------------------------------------------------------- */

dit_context dit_context_new(const dit *model, const float *context, int64_t frames)
{
    const dit_config *config = &model->config;
    ace_device *dev = model->weights.dev;
    int64_t patch = config->patch_size, padded = (frames + patch - 1) / patch * patch;
    dit_context result = {.frames = frames,
                          .input = ace_scratch(dev, ace_device_act(dev), padded, config->in_channels)};
    result.rope = rope_table(dev, padded / patch, config->dit.head_dim, config->dit.rope_theta);
    ace_mark mark = ace_scratch_mark(dev);
    float *zeros = ace_scratch_host(dev, (padded - frames) * config->in_channels);

    ace_mat given = ace_cols(result.input, 0, config->in_channels - config->latent_channels);
    ace_upload(dev, ace_rows(given, 0, frames), context);
    if (zeros) memset(zeros, 0, (size_t)((padded - frames) * config->in_channels) * sizeof *zeros);
    ace_upload(dev, ace_rows(result.input, frames, padded - frames), zeros);
    ace_scratch_release(dev, mark);
    return result;
}

/* ---- the velocity (dit.md 5.5, 5.6) -------------------------------------------------------------------------- */

/* The rows of scale_shift_table + proj in their order. */
enum { SHIFT_SELF, SCALE_SELF, GATE_SELF, SHIFT_MLP, SCALE_MLP, GATE_MLP };

/* Everything that the layers of one call share. */
typedef struct velocity_call {
    const dit *model;
    const dit_item *items;
    int64_t count, tokens;
    attention_span span;
} velocity_call;

static void patchify(const velocity_call *call, ace_mat x)
{
    const dit *model = call->model;
    const dit_config *config = &model->config;
    ace_device *dev = model->weights.dev;
    int64_t latent = config->latent_channels, given = config->in_channels - latent;
    for (int64_t i = 0; i < call->count; i++) {
        const dit_context *context = call->items[i].context;
        ace_mat noisy = ace_cols(context->input, given, latent);
        ace_upload(dev, ace_rows(noisy, 0, context->frames), call->items[i].x);
        ace_linear(dev, ace_rows(x, i * call->tokens, call->tokens),
                   ace_reshape(context->input, call->tokens, config->patch_size * config->in_channels), model->proj_in,
                   &(ace_epilogue){.bias = model->proj_in_bias});
    }
}

static void cross_attend(const velocity_call *call, int layer_index, const dit_layer *layer, ace_mat x)
{
    const transformer_config *shape = &call->model->config.dit;
    ace_device *dev = call->model->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    ace_dtype act = ace_device_act(dev);
    int64_t kv_width = transformer_kv_width(shape);
    ace_attention_shape heads = transformer_attention(shape, ACE_MASK_FULL, 0);

    ace_mat mixed = ace_scratch(dev, act, x.rows, transformer_q_width(shape));
    ace_mat q = ace_scratch(dev, act, x.rows, transformer_q_width(shape));
    ace_mat normed = ace_scratch(dev, act, x.rows, x.cols);

    ace_rms_norm(dev, normed, x, layer->cross_norm, shape->rms_norm_eps, (ace_mat){0}, (ace_mat){0});
    ace_linear(dev, q, normed, layer->cross.q, NULL);
    ace_head_norm_rope(dev, q, shape->head_dim, layer->cross.q_norm, shape->rms_norm_eps, (ace_mat){0}, 0);
    for (int64_t i = 0; i < call->count; i++) {
        const dit_condition *condition = call->items[i].condition;
        ace_mat kv = ace_rows(condition->kv, layer_index * condition->length, condition->length);
        ace_attention(dev, ace_rows(mixed, i * call->tokens, call->tokens), ace_rows(q, i * call->tokens, call->tokens),
                      ace_cols(kv, 0, kv_width), ace_cols(kv, kv_width, kv_width), &heads);
    }
    ace_linear(dev, x, mixed, layer->cross.output, &(ace_epilogue){.residual = x});
    ace_scratch_release(dev, mark);
}

/* modulation: F32 [1][6 H], the schedule's row for this step. */
static void forward_layer(velocity_call *call, int layer_index, const dit_layer *layer, ace_mat x, ace_mat modulation)
{
    const dit_config *config = &call->model->config;
    const transformer_config *shape = &config->dit;
    ace_device *dev = call->model->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);

    ace_mat sum = ace_scratch(dev, ACE_F32, 1, 6 * (int64_t)shape->hidden);
    ace_add_vector(dev, sum, modulation, layer->modulation);
    ace_mat rows = ace_reshape(sum, 6, shape->hidden);
    transformer_branch self = {layer->self_norm, ace_rows(rows, SCALE_SELF, 1), ace_rows(rows, SHIFT_SELF, 1),
                               ace_rows(rows, GATE_SELF, 1)};
    transformer_branch mlp = {layer->mlp_norm, ace_rows(rows, SCALE_MLP, 1), ace_rows(rows, SHIFT_MLP, 1),
                              ace_rows(rows, GATE_MLP, 1)};

    call->span.mask = config->sliding[layer_index] ? ACE_MASK_BAND : ACE_MASK_FULL;
    self_attention_forward(dev, &layer->self, shape, &self, x, &call->span);
    cross_attend(call, layer_index, layer, x);
    gated_mlp_forward(dev, &layer->mlp, shape, &mlp, x);
    ace_scratch_release(dev, mark);
}

/* temb: F32 [1][H]. */
static void unpatchify(const velocity_call *call, ace_mat x, ace_mat temb)
{
    const dit *model = call->model;
    const dit_config *config = &model->config;
    ace_device *dev = model->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t hidden = config->dit.hidden, latent = config->latent_channels, patch = config->patch_size;

    ace_mat sum = ace_scratch(dev, ACE_F32, 1, 2 * hidden);
    ace_mat v = ace_scratch(dev, ACE_F32, x.rows, patch * latent);
    ace_mat normed = ace_scratch(dev, ace_device_act(dev), x.rows, hidden);
    ace_mat shift = ace_cols(sum, 0, hidden), scale = ace_cols(sum, hidden, hidden);

    ace_copy(dev, shift, temb);
    ace_copy(dev, scale, temb);
    ace_add_vector(dev, sum, sum, model->modulation_out);
    ace_rms_norm(dev, normed, x, model->norm_out, config->dit.rms_norm_eps, scale, shift);
    ace_linear(dev, v, normed, model->proj_out, &(ace_epilogue){.bias = model->proj_out_bias});
    for (int64_t i = 0; i < call->count; i++) {
        ace_mat frames = ace_reshape(ace_rows(v, i * call->tokens, call->tokens), patch * call->tokens, latent);
        ace_download(dev, call->items[i].velocity, ace_rows(frames, 0, call->items[i].context->frames));
    }
    ace_scratch_release(dev, mark);
}

/* False, with the device failed, when the items cannot be one call: a bug of the caller. */
static bool items_fit(const dit *model, const dit_schedule *schedule, int64_t step, const dit_item *items,
                      int64_t count)
{
    bool fit = step >= 0 && step < schedule->count && count > 0;
    for (int64_t i = 1; fit && i < count; i++) fit = items[i].context->frames == items[0].context->frames;
    if (fit) return true;
    ace_error error = {0};
    ace_fail(&error, ACE_ERROR_INTERNAL,
             "dit_velocity called with a step outside the schedule or items of different lengths: this is a bug, "
             "please report it");
    ace_device_fail(model->weights.dev, &error);
    return false;
}

void dit_velocity(const dit *model, const dit_schedule *schedule, int64_t step, const dit_item *items, int64_t count,
                  const dit_tap *tap)
{
    if (!items_fit(model, schedule, step, items, count)) return;
    const transformer_config *shape = &model->config.dit;
    ace_device *dev = model->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t patch = model->config.patch_size, tokens = (items[0].context->frames + patch - 1) / patch;

    ace_mat x = ace_scratch(dev, ACE_F32, count * tokens, shape->hidden);
    /* a copy, so that every step finds its modulation at the same place */
    ace_mat row = ace_scratch(dev, ACE_F32, 1, schedule_width(model));
    ace_copy(dev, row, ace_rows(schedule->rows, step, 1));
    velocity_call call = {
        model,
        items,
        count,
        tokens,
        {.items = count, .length = tokens, .rope = items[0].context->rope, .radius = model->config.sliding_window}};

    ace_repeat_begin(dev);
    patchify(&call, x);
    if (tap) tap->stage(tap->context, dev, 0, x);
    held_layer held = {0};
    for (int i = 0; i < shape->layers; i++) {
        hold_layer(&held, model, i, load_layer);
        if (held.layer) forward_layer(&call, i, held.layer, x, modulation_of(model, row));
        if (tap) tap->stage(tap->context, dev, i + 1, x);
    }
    let_go(&held);
    unpatchify(&call, x, temb_of(model, row));
    ace_repeat_end(dev);
    ace_scratch_release(dev, mark);
}
