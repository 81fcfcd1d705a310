/* audio_tokenizer.h - 25 Hz latents to 5 Hz audio codes and back (dit.md 4). Two models, loaded separately: covers need
 * both, codes from the planner only the detokenizer. */
#ifndef ACE_MODEL_AUDIO_TOKENIZER_H
#define ACE_MODEL_AUDIO_TOKENIZER_H

#include "model/encoder_stack.h"
#include "model/fsq.h"

/* ---- latents to codes ---------------------------------------------------------------------------------------- */

typedef struct audio_tokenizer {
    dit_config config;
    ace_weight_set weights;
    const ace_weight *acoustic_proj, *acoustic_bias;
    const ace_weight *embed, *embed_bias, *token;
    encoder_stack pooler;
    const ace_weight *project_in, *project_in_bias;
} audio_tokenizer;

/* Failures stick in `dev`; free() is due in any case. */
void audio_tokenizer_load(audio_tokenizer *tokenizer, ace_device *dev, const ace_part *part, const dit_config *config);
void audio_tokenizer_free(audio_tokenizer *tokenizer);

/* Codes of `frames` >= 1 latents: host [frames][latent_channels]. codes: host, ceil(frames / pool_window) of them.
 * silence: host, the first pool_window frames of the silence latent, which fill up the last group. All three NULL on
 * the meter. */
void audio_tokenizer_encode(const audio_tokenizer *tokenizer, int32_t *codes, const float *latents, int64_t frames,
                            const float *silence);

/* ---- codes to latents ---------------------------------------------------------------------------------------- */

typedef struct audio_detokenizer {
    dit_config config;
    ace_weight_set weights;
    const ace_weight *project_out, *project_out_bias;
    const ace_weight *embed, *embed_bias, *tokens;
    encoder_stack stack;
    const ace_weight *proj_out, *proj_out_bias;
} audio_detokenizer;

/* Failures stick in `dev`; free() is due in any case. */
void audio_detokenizer_load(audio_detokenizer *detokenizer, ace_device *dev, const ace_part *part,
                            const dit_config *config);
void audio_detokenizer_free(audio_detokenizer *detokenizer);

/* latents: host [count * pool_window][latent_channels], from `count` codes, each in [0, fsq_codes()) or an
 * ACE_ERROR_USAGE in the device. Both NULL on the meter. */
void audio_detokenizer_decode(const audio_detokenizer *detokenizer, float *latents, const int32_t *codes,
                              int64_t count);

#endif
