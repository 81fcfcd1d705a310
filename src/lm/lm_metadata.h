/* lm_metadata.h - what the planner knows of a song: seven fields, given by the user or written by the model. */
#ifndef ACE_LM_METADATA_H
#define ACE_LM_METADATA_H

#include "base/text.h"
#include "lm/lm_profile.h"
#include "lm/lm_text.h"

/* In the order in which the model writes them, which is alphabetical. */
typedef enum lm_field {
    LM_BPM,
    LM_CAPTION,
    LM_DURATION,
    LM_GENRES,
    LM_KEYSCALE,
    LM_LANGUAGE,
    LM_TIMESIGNATURE,
    LM_FIELD_COUNT
} lm_field;

const char *lm_field_name(lm_field field); /* "bpm", ... */

/* The codes that the model may write as language, sorted; "unknown" is one of them. */
enum { LM_LANGUAGE_COUNT = 51 };
const char *lm_language_at(size_t index);

/* The values that the model may write (spec/lm.md 4.2): "F# minor" with the accidentals # b U+266F U+266D, a language
 * code, "2", "3", "4" or "6". */
bool lm_is_keyscale(lm_slice text);
bool lm_is_language(lm_slice text);
bool lm_is_timesignature(lm_slice text);

typedef enum lm_kind { LM_ABSENT, LM_INTEGER, LM_NUMBER, LM_TEXT } lm_kind;

typedef struct lm_value {
    lm_kind kind;
    int64_t integer;
    double number;
    char *text; /* LM_TEXT: owned, UTF-8 without NUL */
} lm_value;

/* Zero-initialise to start empty; release with lm_metadata_free(), which leaves it empty. */
typedef struct lm_metadata {
    lm_value fields[LM_FIELD_COUNT];
} lm_metadata;

void lm_metadata_free(lm_metadata *metadata);
void lm_metadata_clear(lm_metadata *metadata, lm_field field);
bool lm_metadata_set_text(lm_metadata *metadata, lm_field field, lm_slice text, ace_error *error);
void lm_metadata_set_integer(lm_metadata *metadata, lm_field field, int64_t value);
void lm_metadata_set_number(lm_metadata *metadata, lm_field field, double value);

/* Makes the empty `to` equal to `from`. */
bool lm_metadata_copy(lm_metadata *to, const lm_metadata *from, ace_error *error);

bool lm_metadata_has(const lm_metadata *metadata, lm_field field);
bool lm_metadata_is_empty(const lm_metadata *metadata);

/* bpm, duration, keyscale and timesignature are all there: nothing is left for the model to plan. */
bool lm_metadata_is_complete(const lm_metadata *metadata);

/* Appends a value as the model would write it after "name: ", without YAML's quotes: what is forced on the model for a
 * field that the user gave. Nothing for LM_ABSENT. */
void lm_value_write(ace_text *out, const lm_value *value);

/* What a request says. Texts are valid UTF-8 or NULL. */
typedef struct lm_request {
    const char *caption, *lyrics, *language, *keyscale, *timesignature;
    double bpm;      /* <= 0: not given */
    double duration; /* seconds; <= 0: not given */
} lm_request;

/* The metadata that are the user's and not the model's to choose. All fill the empty `metadata`.
 * Generation (spec/lm.md 3.2): bpm and duration above 0 as integers; keyscale and timesignature unless blank or n/a. */
bool lm_metadata_for_generation(const lm_request *request, lm_metadata *metadata, ace_error *error);
/* Writing a song from an idea (3.10): a language that is not unknown. */
bool lm_metadata_for_inspiration(const lm_request *request, lm_metadata *metadata, ace_error *error);
/* Formatting (3.11): bpm and duration whose integer is above 0; keyscale, timesignature and language as they are. */
bool lm_metadata_for_format(const lm_request *request, lm_metadata *metadata, ace_error *error);

/* A song as it leaves the planner. Owned texts, never NULL after success, "" when nothing is known. */
typedef struct lm_song {
    char *caption, *lyrics, *keyscale, *language, *timesignature;
    int64_t bpm;     /* 0: not known */
    double duration; /* seconds; 0: not known */
} lm_song;

void lm_song_free(lm_song *song);

/* Generation (3.3): the request with its gaps filled from what the model planned. `rewrite` takes the model's caption
 * (use_cot_caption); `detect` (use_cot_language) its language where the request has none, which the official profile
 * never does. Lyrics are always the request's. `song` must be empty. */
bool lm_song_merge(lm_profile profile, const lm_request *request, const lm_metadata *planned, bool rewrite, bool detect,
                   lm_song *song, ace_error *error);

/* Understanding, writing and formatting (6.6): what the model wrote. `lyrics` are those found behind its plan. `given`
 * (may be NULL) are the user's own values: the default profile takes them where the model wrote none, as it does not
 * for a language that was given for formatting. `written` without any metadata is an error: the model answered nothing.
 */
bool lm_song_assemble(lm_profile profile, const lm_metadata *written, const lm_metadata *given, const char *lyrics,
                      lm_song *song, ace_error *error);

/* The length of the song to plan codes for (3.3): the request's, else the one the model planned; 0 when neither. */
double lm_target_duration(double requested, const lm_metadata *planned);

#endif
