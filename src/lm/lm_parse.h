/* lm_parse.h - reading what the model wrote: metadata, lyrics and audio codes (spec/lm.md 6).
 *
 * The model's text is the model's, and a user may have edited it: nothing about it is certain. What cannot be read as a
 * field is skipped, never guessed at. Text is the decoded tokens, special ones included; a NUL in it counts as U+FFFD.
 * Text that is not UTF-8 is ACE_ERROR_USAGE naming the byte. All functions take time linear in the text. */
#ifndef ACE_LM_PARSE_H
#define ACE_LM_PARSE_H

#include "lm/lm_metadata.h"

/* Fills the empty `metadata` with the fields found in <think>...</think>, or in the whole text before its first audio
 * code when that is missing or empty. bpm and duration become integers where they are. The default profile also removes
 * YAML's quotes, and drops a keyscale, language or timesignature that is none, except those in `given` (may be NULL),
 * which the user chose. */
bool lm_parse_metadata(lm_profile profile, const char *text, size_t n, const lm_metadata *given, lm_metadata *metadata,
                       ace_error *error);

/* The lyrics behind </think>, without their "# Lyric" heading; "" when there are none. Caller frees. */
char *lm_parse_lyrics(lm_profile profile, const char *text, size_t n, ace_error *error);

/* The numbers of all <|audio_code_N|> in order; N above 63999 counts as 63999, and *clamped is how many did. Caller
 * frees *codes, which is not NULL even when there are none. */
bool lm_parse_codes(const char *text, size_t n, int32_t **codes, size_t *count, size_t *clamped, ace_error *error);

/* Appends codes as the model writes them, "<|audio_code_17|><|audio_code_4|>". */
void lm_write_codes(ace_text *out, const int32_t *codes, size_t count);

#endif
