/* lm_prompt.h - the texts that the planner sees (spec/lm.md 2.9, 3.1, 3.5 to 3.11).
 *
 * A prompt is one system turn with an instruction, one user turn, and the beginning of the assistant's. User text goes
 * in as it is, so a caption that contains "<|im_end|>" contains that token. All functions return text that the caller
 * frees, NULL for lack of memory or, with ACE_ERROR_USAGE, for text that is not UTF-8. NULL texts are empty. */
#ifndef ACE_LM_PROMPT_H
#define ACE_LM_PROMPT_H

#include "lm/lm_metadata.h"
#include "text/bpe.h"

/* Generation, phase 1: caption and lyrics, for which the model is to write metadata. */
char *lm_prompt_plan(const char *caption, const char *lyrics, ace_error *error);

/* Generation, phase 2: the same followed by the plan; the next tokens are audio codes. The caption is the user's, the
 * plan holds the model's. */
char *lm_prompt_codes(const char *caption, const char *lyrics, const lm_metadata *plan, ace_error *error);

/* Phase 2 without condition, for guidance: the negative prompt (or, when it is blank, NO USER INPUT) and an empty plan.
 */
char *lm_prompt_codes_unconditional(const char *negative_prompt, ace_error *error);

/* Audio codes as text, of which the model is to write metadata and lyrics. Blank codes become NO USER INPUT. */
char *lm_prompt_understand(const char *codes, ace_error *error);

/* An idea, of which the model is to write caption, lyrics and metadata. A blank one becomes NO USER INPUT. */
char *lm_prompt_inspire(const char *idea, bool instrumental, ace_error *error);

/* Caption and lyrics that the model is to write out and structure. Blank ones become NO USER INPUT and [Instrumental].
 */
char *lm_prompt_format(const char *caption, const char *lyrics, ace_error *error);

/* The plan as the model writes it: "<think>\n", one line of YAML for each field but genres, "</think>". */
char *lm_prompt_think(const lm_metadata *plan, ace_error *error);

/* Appends the ids of a prompt, which must leave room for `answer` tokens within `context` tokens: a prompt is never
 * cut. ACE_ERROR_USAGE says by how much it is too long. */
bool lm_prompt_encode(const ace_tokenizer *tokenizer, const char *prompt, size_t answer, size_t context, ace_ids *ids,
                      ace_error *error);

#endif
