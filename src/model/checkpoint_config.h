/* checkpoint_config.h - the config of a model that was found: from its GGUF metadata, the config.json beside it, or the
 * shapes of its tensors, and in each case checked against them. */
#ifndef ACE_MODEL_CHECKPOINT_CONFIG_H
#define ACE_MODEL_CHECKPOINT_CONFIG_H

#include "model/checkpoint_scan.h"

/* `name` is the model's name, which tells the recipe (turbo or not) where nothing else does. */
bool found_dit_config(const found_model *model, const ace_part *part, const char *name, dit_config *config,
                      ace_error *error);
bool found_text_encoder_config(const found_model *model, const ace_part *part, qwen3_config *config, ace_error *error);
/* Also that the rows suffice for the audio codes and that the head is what the config says. */
bool found_lm_config(const found_model *model, const ace_part *part, qwen3_config *config, ace_error *error);
bool found_vae_config(const found_model *model, const ace_part *part, vae_config *config, ace_error *error);

#endif
