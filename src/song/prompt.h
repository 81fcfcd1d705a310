/* prompt.h - the texts that the text encoder sees (dit.md section 6) and audio codes as text (dit.md 4.4). */
#ifndef ACE_SONG_PROMPT_H
#define ACE_SONG_PROMPT_H

#include <acestep.h>

#define PROMPT_TEXT2MUSIC "Fill the audio semantic mask based on the given conditions:"
#define PROMPT_COVER "Generate audio semantic tokens based on the given conditions:"

enum { PROMPT_TEXT_TOKENS = 256, PROMPT_LYRIC_TOKENS = 2048 };

typedef struct prompt_metas {
    int bpm;                   /* 0: N/A */
    const char *timesignature; /* NULL or blank: N/A */
    const char *keyscale;
    double duration; /* seconds; <= 0: 30 */
} prompt_metas;

/* The caption branch (6.1, 6.2). Caller frees. */
char *prompt_caption(const char *instruction, const char *caption, const prompt_metas *metas, ace_error *error);

/* The lyric branch (6.3). Caller frees. */
char *prompt_lyrics(const char *language, const char *lyrics, ace_error *error);

/* The codes in `text`: all <|audio_code_N|> in order if there is one, else a list of integers between commas, blanks or
 * brackets. N above 63999 is an error. Caller frees *codes; *count may be 0. */
bool prompt_parse_codes(const char *text, int32_t **codes, int64_t *count, ace_error *error);

#endif
