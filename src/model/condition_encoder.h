/* condition_encoder.h - caption, lyrics and reference audio become one sequence for cross-attention (dit.md 3). */
#ifndef ACE_MODEL_CONDITION_ENCODER_H
#define ACE_MODEL_CONDITION_ENCODER_H

#include "model/encoder_stack.h"

typedef struct condition_encoder {
    dit_config config;
    ace_weight_set weights;
    const ace_weight *text_projector;
    const ace_weight *lyric_embed, *lyric_bias;
    encoder_stack lyric;
    const ace_weight *timbre_embed, *timbre_bias;
    const ace_weight *timbre_token; /* NULL where the first frame takes its place (2B) */
    encoder_stack timbre;
} condition_encoder;

/* Failures stick in `dev`; free() is due in any case. */
void condition_encoder_load(condition_encoder *encoder, ace_device *dev, const ace_part *part,
                            const dit_config *config);
void condition_encoder_free(condition_encoder *encoder);

/* y[1][encoder hidden] = the timbre embedding of one reference. latents: host [frames][latent_channels] at 25 Hz,
 * normally config.timbre_frames of them; NULL on the meter. y: F32 or act dtype, allocated by the caller. Without
 * reference audio the latents are the silence latent's; that embedding is constant for a checkpoint. */
void condition_encoder_timbre(const condition_encoder *encoder, ace_mat y, const float *latents, int64_t frames);

/* y[lyric.rows + timbre.rows + text.rows][encoder hidden] = the packed condition: encoded lyrics, timbre embeddings,
 * projected text. lyric: act dtype [>= 1][text_hidden], rows of qwen3_embed(). timbre: F32 or act dtype
 * [references][encoder hidden]. text: act dtype [>= 1][text_hidden], rows of qwen3_forward(). y: act dtype (what
 * dit_condition_new() takes) or F32, allocated by the caller. */
void condition_encoder_forward(const condition_encoder *encoder, ace_mat y, ace_mat lyric, ace_mat timbre,
                               ace_mat text);

#endif
