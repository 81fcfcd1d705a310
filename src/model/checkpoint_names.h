/* checkpoint_names.h - which model a file holds, and what its tensors are called officially.
 *
 * A file is recognised by its tensors. Their names may carry a prefix (dit.md 1.9, lm.md 1.2):
 *   official, GGUF        "decoder.layers.0..."
 *   ComfyUI, all in one   "model.diffusion_model.decoder.layers.0...", "vae.decoder...",
 *                         "text_encoders.<name>.transformer.model.layers.0..."
 *   Qwen3 with a head     "model.layers.0..."
 * and in diffusers directories a model is spread over four of them, with other names (dit.md 1.7). */
#ifndef ACE_MODEL_CHECKPOINT_NAMES_H
#define ACE_MODEL_CHECKPOINT_NAMES_H

#include "model/checkpoint.h"

enum { NAMES_PREFIX_SIZE = 128, NAMES_AUDIO_CODES = 64000 };

typedef enum found_kind {
    FOUND_DIT = ACE_PART_DIT,
    FOUND_TEXT_ENCODER = ACE_PART_TEXT_ENCODER,
    FOUND_VAE = ACE_PART_VAE,
    FOUND_PLANNER = ACE_PART_LM, /* a 5 Hz language model: Qwen3 with audio codes in its vocabulary */
    FOUND_KINDS
} found_kind;

/* Whether an embedding of so many rows is a planner's and not a text encoder's: it holds the 64,000 audio codes beside
 * the text (lm.md 2.6). A text vocabulary is Qwen's, if the rows suffice for that, and else a small one of a test; so
 * the text encoder's 151,669 rows are not taken for 87,669 rows of text and as many codes as a planner has. Nothing
 * else in the files tells: both have the same tensors, and both configs may say Qwen3Model or Qwen3ForCausalLM. */
bool names_rows_hold_codes(int64_t rows);

/* The prefix of a model of that kind in a set; false when the set holds none. Which of the two kinds a Qwen3 is, the
 * architecture of a GGUF file says, and else its rows. */
bool names_find(const ace_tensors *tensors, found_kind kind, char prefix[NAMES_PREFIX_SIZE]);

/* The parts of a diffusers DiT, by directory. */
typedef enum diffusers_piece {
    DIFFUSERS_NONE,
    DIFFUSERS_TRANSFORMER,
    DIFFUSERS_CONDITION_ENCODER,
    DIFFUSERS_TOKENIZER,
    DIFFUSERS_DETOKENIZER
} diffusers_piece;

/* The directory name of a piece; NULL for DIFFUSERS_NONE. */
const char *names_diffusers_directory(diffusers_piece piece);

/* True when the set is the transformer of a diffusers directory. */
bool names_is_diffusers(const ace_tensors *tensors);

/* ---- parts --------------------------------------------------------------------------------------------------- */

/* An empty part; `path` is copied. */
ace_part *part_new(const char *path, ace_error *error);

/* Adds the tensors of a set that begin with the prefix, without it. The set must outlive the part. */
bool part_add(ace_part *part, const ace_tensors *tensors, const char *prefix, ace_error *error);

/* Adds the head of a Qwen3 with the prefix "...model.", which lies outside that prefix, if it has one. */
bool part_add_head(ace_part *part, const ace_tensors *tensors, const char *prefix, ace_error *error);

/* Adds the tensors of one diffusers directory under their official names. */
bool part_add_diffusers(ace_part *part, const ace_tensors *tensors, diffusers_piece piece, ace_error *error);

/* Sorts for part_find(); an official name that occurs twice is an error. */
bool part_finish(ace_part *part, ace_error *error);

void part_free(ace_part *part);

#endif
