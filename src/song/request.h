/* request.h - the fields of a request: one table says their names, types, ranges and meaning, and the command line,
 * JSON, the tags of a song and the help all follow from it. */
#ifndef ACE_SONG_REQUEST_H
#define ACE_SONG_REQUEST_H

#include <acestep.h>

typedef enum request_field {
    FIELD_CAPTION,
    FIELD_LYRICS,
    FIELD_INSTRUMENTAL,
    FIELD_LANGUAGE,
    FIELD_BPM,
    FIELD_KEYSCALE,
    FIELD_TIMESIGNATURE,
    FIELD_DURATION,
    FIELD_AUDIO_CODES,
    FIELD_SEED,
    FIELD_BATCH_SIZE,
    FIELD_THINKING,
    FIELD_COT_METAS,
    FIELD_COT_CAPTION,
    FIELD_COT_LANGUAGE,
    FIELD_LM_TEMPERATURE,
    FIELD_LM_CFG_SCALE,
    FIELD_LM_TOP_K,
    FIELD_LM_TOP_P,
    FIELD_LM_PENALTY,
    FIELD_LM_NEGATIVE,
    FIELD_LM_PROFILE,
    FIELD_STEPS,
    FIELD_SHIFT,
    FIELD_TIMESTEPS,
    FIELD_SOLVER,
    FIELD_STORK_SUBSTEPS,
    FIELD_GUIDANCE_SCALE,
    FIELD_GUIDANCE,
    FIELD_CFG_START,
    FIELD_CFG_END,
    FIELD_VELOCITY_NORM,
    FIELD_VELOCITY_EMA,
    FIELD_DCW,
    FIELD_DCW_MODE,
    FIELD_DCW_SCALER,
    FIELD_DCW_HIGH_SCALER,
    FIELD_DCW_WAVELET,
    FIELD_NOISE,
    FIELD_COVER_STRENGTH,
    FIELD_COVER_NOISE,
    FIELD_LATENT_SHIFT,
    FIELD_LATENT_RESCALE,
    FIELD_NORMALIZE,
    FIELD_NORMALIZE_DB,
    FIELD_FADE_IN,
    FIELD_FADE_OUT,
    FIELD_FORMAT,
    FIELD_MP3_BITRATE,
    FIELD_COUNT
} request_field;

typedef enum field_kind { FIELD_TEXT, FIELD_INTEGER, FIELD_NUMBER, FIELD_BOOL, FIELD_CHOICE } field_kind;

typedef struct field_spec {
    ace_field doc;
    field_kind kind;
    double min, max;     /* INTEGER, NUMBER: inclusive; TEXT: max bytes */
    const char *choices; /* CHOICE: " a b c " */
    const char *aliases; /* other names of ACE-Step's interfaces, " a b " */
} field_spec;

extern const field_spec request_fields[FIELD_COUNT];

typedef struct field_value {
    bool set;
    double number; /* NUMBER; BOOL as 0 or 1 */
    int64_t integer;
    char *text; /* TEXT and CHOICE, owned */
} field_value;

/* What made the song that a request was loaded from: "" each where there was none, or where it does not say. */
typedef struct song_origin {
    char model[33]; /* hash of the weights */
    char precision[8], quantization[8];
} song_origin;

struct ace_request {
    field_value values[FIELD_COUNT];
    song_origin origin;
    char *planning; /* JSON: what was asked of which planner; NULL unless loaded from a planned song. Owned */
};

ace_request *request_copy(const ace_request *request, ace_error *error);

bool request_is_set(const ace_request *request, request_field field);

/* The value, or `unset` when the field is not set. Texts are borrowed. */
const char *request_text(const ace_request *request, request_field field, const char *unset);
double request_number(const ace_request *request, request_field field, double unset);
int64_t request_integer(const ace_request *request, request_field field, int64_t unset);
bool request_bool(const ace_request *request, request_field field, bool unset);

void request_clear(ace_request *request, request_field field);

/* Setting resolved values; they are in range by construction. False only for lack of memory. */
bool request_put_text(ace_request *request, request_field field, const char *value, ace_error *error);
void request_put_number(ace_request *request, request_field field, double value);
void request_put_integer(ace_request *request, request_field field, int64_t value);
void request_put_bool(ace_request *request, request_field field, bool value);

#endif
