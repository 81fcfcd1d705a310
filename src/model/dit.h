/* dit.h - the diffusion transformer (dit.md 5): noisy latents, context, timestep and condition in, velocity out.
 *
 * What does not change from step to step is computed once: the condition's keys and values (dit_condition), the
 * modulation of every timestep (dit_schedule), the context's place in the input and its positions (dit_context). Each
 * is left on top of the device's scratch stack by its _new() and lives until the caller releases the stack below it.
 * Steps at the same height of the stack are the same operations, which a device may record (ace_repeat_begin()).
 *
 *   dit_load(&dit, dev, part, &config, NULL);
 *   dit_schedule schedule = dit_schedule_new(&dit, timesteps, n);
 *   dit_condition condition = dit_condition_new(&dit, enc);
 *   dit_context context = dit_context_new(&dit, src_and_mask, frames);
 *   for each step: dit_velocity(&dit, &schedule, step, &(dit_item){&context, &condition, x, v}, 1, NULL); */
#ifndef ACE_MODEL_DIT_H
#define ACE_MODEL_DIT_H

#include "model/transformer.h"

typedef struct cross_attention {
    const ace_weight *q, *kv, *q_norm, *k_norm, *output;
} cross_attention;

typedef struct dit_layer {
    const ace_weight *modulation; /* scale_shift_table, 6 H */
    const ace_weight *self_norm;
    self_attention self;
    const ace_weight *cross_norm;
    cross_attention cross;
    const ace_weight *mlp_norm;
    gated_mlp mlp;
} dit_layer;

typedef struct dit_time_embedding {
    const ace_weight *linear_1, *bias_1, *linear_2, *bias_2, *proj, *proj_bias;
} dit_time_embedding;

typedef struct dit {
    dit_config config;
    ace_weight_set weights;
    const ace_weight *proj_in, *proj_in_bias; /* a row is patch_size frames of in_channels */
    dit_time_embedding time, time_r;
    const ace_weight *condition_embedder, *condition_bias;
    dit_layer layers[CONFIG_MAX_LAYERS]; /* unless streamed */
    layer_storage storage;
    const ace_weight *norm_out, *modulation_out; /* scale_shift_table, 2 H: shift, scale */
    const ace_weight *proj_out, *proj_out_bias;  /* a row is patch_size frames of latent_channels */
    const ace_weight *null_condition;            /* one row of encoder hidden */
} dit;

/* Failures stick in `dev`; free() is due in any case. The Linears of the layers' attentions and MLPs have the form of
 * the storage. Everything else is plain: norms, modulations, the embeddings of time and condition, the projections in
 * and out, where an error would reach every layer or the result unchecked and where little memory is to be won. */
void dit_load(dit *model, ace_device *dev, const ace_part *part, const dit_config *config,
              const layer_storage *storage);
void dit_free(dit *model);

/* Modulations of n timesteps, each in [0, 1] (host, n >= 1; NULL on the meter). */
typedef struct dit_schedule {
    int64_t count;
    ace_mat rows; /* F32 [count][7 H]: proj(t) + proj_r(0), 6 H; temb(t) + temb_r(0), H */
} dit_schedule;

dit_schedule dit_schedule_new(const dit *model, const float *timesteps, int64_t count);

/* Cross-attention keys and values of every layer for one packed condition of E rows. */
typedef struct dit_condition {
    int64_t length; /* E */
    ace_mat kv;     /* act [layers * E][2 * kv width]: keys, then values */
} dit_condition;

/* enc: act dtype [E >= 1][encoder hidden]. */
dit_condition dit_condition_new(const dit *model, ace_mat enc);

/* The unconditional half of guidance: null_condition_emb as a sequence of one row, which in real arithmetic equals any
 * number of copies of it (dit.md 5.8). */
dit_condition dit_null_condition_new(const dit *model);

/* The input of one song: its context beside room for x_t. Several items of a call may share one. */
typedef struct dit_context {
    int64_t frames; /* T, odd allowed */
    ace_mat input;  /* act [T rounded up to patch_size][in_channels]: source latent, chunk mask, x_t */
    ace_mat rope;   /* F32 [tokens][head_dim]: of the positions of its tokens */
} dit_context;

/* context: host [frames >= 1][in_channels - latent_channels]; NULL on the meter. */
dit_context dit_context_new(const dit *model, const float *context, int64_t frames);

/* One sequence of a call. All items of a call have the same number of frames; item i gives the same bytes whatever the
 * other items are. */
typedef struct dit_item {
    const dit_context *context;
    const dit_condition *condition;
    const float *x;  /* host [frames][latent_channels]; NULL on the meter */
    float *velocity; /* host [frames][latent_channels]; NULL on the meter */
} dit_item;

/* For tests: sees the residual stream F32 [items * tokens][H] after proj_in (stage 0) and after layer i (stage i + 1).
 * Must leave the scratch stack as it finds it. */
typedef struct dit_tap {
    void (*stage)(void *context, ace_device *dev, int stage, ace_mat x);
    void *context;
} dit_tap;

/* The velocity of every item at timestep number `step` of the schedule. tap may be NULL. */
void dit_velocity(const dit *model, const dit_schedule *schedule, int64_t step, const dit_item *items, int64_t count,
                  const dit_tap *tap);

#endif
