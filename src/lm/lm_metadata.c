#include "lm/lm_metadata.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *lm_field_name(lm_field field)
{
    static const char *const names[LM_FIELD_COUNT] = {"bpm",      "caption",  "duration",     "genres",
                                                      "keyscale", "language", "timesignature"};
    return names[field];
}

/* ---- value sets -------------------------------------------------------------------------------------------- */

static const char languages[LM_LANGUAGE_COUNT][8] = {
    "ar", "az", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he",  "hi", "hr",
    "ht", "hu", "id", "is", "it", "ja", "ko", "la", "lt", "ms", "ne", "nl", "no", "pa", "pl",  "pt", "ro",
    "ru", "sa", "sk", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yue", "zh", "unknown",
};

const char *lm_language_at(size_t index)
{
    return languages[index];
}

bool lm_is_language(lm_slice text)
{
    for (size_t i = 0; i < LM_LANGUAGE_COUNT; i++)
        if (lm_slice_is(text, languages[i])) return true;
    return false;
}

bool lm_is_keyscale(lm_slice text)
{
    static const char *const accidentals[] = {"", "#", "b", "\u266f", "\u266d"};
    if (text.length < 1 || text.data[0] < 'A' || text.data[0] > 'G') return false;
    for (size_t i = 0; i < sizeof accidentals / sizeof accidentals[0]; i++) {
        size_t n = strlen(accidentals[i]);
        if (text.length <= n || memcmp(text.data + 1, accidentals[i], n) != 0) continue;
        lm_slice mode = {text.data + 1 + n, text.length - 1 - n};
        if (lm_slice_is(mode, " major") || lm_slice_is(mode, " minor")) return true;
    }
    return false;
}

bool lm_is_timesignature(lm_slice text)
{
    return text.length == 1 &&
           (text.data[0] == '2' || text.data[0] == '3' || text.data[0] == '4' || text.data[0] == '6');
}

/* ---- the map ----------------------------------------------------------------------------------------------- */

void lm_metadata_clear(lm_metadata *metadata, lm_field field)
{
    free(metadata->fields[field].text);
    metadata->fields[field] = (lm_value){0};
}

void lm_metadata_free(lm_metadata *metadata)
{
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) lm_metadata_clear(metadata, field);
}

/* A copy of the text with a NUL behind it. */
static char *copy(lm_slice text, ace_error *error)
{
    char *bytes = ace_calloc(text.length + 1, 1, "metadata", error);
    if (bytes) memcpy(bytes, text.data, text.length);
    return bytes;
}

bool lm_metadata_set_text(lm_metadata *metadata, lm_field field, lm_slice text, ace_error *error)
{
    char *bytes = copy(text, error);
    if (!bytes) return false;
    lm_metadata_clear(metadata, field);
    metadata->fields[field] = (lm_value){.kind = LM_TEXT, .text = bytes};
    return true;
}

void lm_metadata_set_integer(lm_metadata *metadata, lm_field field, int64_t value)
{
    lm_metadata_clear(metadata, field);
    metadata->fields[field] = (lm_value){.kind = LM_INTEGER, .integer = value};
}

void lm_metadata_set_number(lm_metadata *metadata, lm_field field, double value)
{
    lm_metadata_clear(metadata, field);
    metadata->fields[field] = (lm_value){.kind = LM_NUMBER, .number = value};
}

bool lm_metadata_copy(lm_metadata *to, const lm_metadata *from, ace_error *error)
{
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) {
        to->fields[field] = from->fields[field];
        to->fields[field].text = NULL;
        if (from->fields[field].kind == LM_TEXT &&
            !lm_metadata_set_text(to, field, lm_slice_of(from->fields[field].text), error)) {
            to->fields[field].kind = LM_ABSENT;
            lm_metadata_free(to);
            return false;
        }
    }
    return true;
}

bool lm_metadata_has(const lm_metadata *metadata, lm_field field)
{
    return metadata->fields[field].kind != LM_ABSENT;
}

bool lm_metadata_is_empty(const lm_metadata *metadata)
{
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++)
        if (lm_metadata_has(metadata, field)) return false;
    return true;
}

bool lm_metadata_is_complete(const lm_metadata *metadata)
{
    return lm_metadata_has(metadata, LM_BPM) && lm_metadata_has(metadata, LM_DURATION) &&
           lm_metadata_has(metadata, LM_KEYSCALE) && lm_metadata_has(metadata, LM_TIMESIGNATURE);
}

/* repr(x) of a finite number: the fewest digits that read back as x; exponents from 1e16 and below 1e-4. Of the
 * exponent form YAML wants a fraction, "1.0e+16". */
static void write_number(ace_text *out, double x)
{
    char digits[32];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, x);
    while (++precision < 17 && strtod(digits, NULL) != x);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int fraction = precision - 1 - exponent;
        ace_text_format(out, "%.*f", fraction > 1 ? fraction : 1, x);
    } else {
        size_t mantissa = (size_t)(strchr(digits, 'e') - digits);
        ace_text_format(out, "%.*s%se%+03d", (int)mantissa, digits, precision > 1 ? "" : ".0", exponent);
    }
}

void lm_value_write(ace_text *out, const lm_value *value)
{
    switch (value->kind) {
    case LM_ABSENT:
        break;
    case LM_INTEGER:
        ace_text_format(out, "%lld", (long long)value->integer);
        break;
    case LM_NUMBER:
        write_number(out, value->number);
        break;
    case LM_TEXT:
        ace_text_add(out, value->text);
        break;
    }
}

/* ---- from a request ---------------------------------------------------------------------------------------- */

/* Sets a field to the integer part of a positive number. */
static bool set_positive(lm_metadata *metadata, lm_field field, double value, double least, ace_error *error)
{
    if (!(value > 0)) return true;
    if (!(value < 1e15)) return ace_fail(error, ACE_ERROR_USAGE, "%s %g is too large", lm_field_name(field), value);
    if (value >= least) lm_metadata_set_integer(metadata, field, (int64_t)value);
    return true;
}

/* Sets a field to the trimmed text unless it is blank or n/a. */
static bool set_known(lm_metadata *metadata, lm_field field, const char *text, ace_error *error)
{
    lm_slice trimmed = lm_trim(lm_slice_of(text));
    if (trimmed.length == 0 || lm_is_word(trimmed, "n/a")) return true;
    return lm_metadata_set_text(metadata, field, trimmed, error);
}

/* Sets a field to the text, as it is, unless it is empty. */
static bool set_verbatim(lm_metadata *metadata, lm_field field, const char *text, ace_error *error)
{
    if (!text || !*text) return true;
    return lm_metadata_set_text(metadata, field, lm_slice_of(text), error);
}

static bool released_unless(bool ok, lm_metadata *metadata)
{
    if (!ok) lm_metadata_free(metadata);
    return ok;
}

bool lm_metadata_for_generation(const lm_request *request, lm_metadata *metadata, ace_error *error)
{
    return released_unless(set_positive(metadata, LM_BPM, request->bpm, 0, error) &&
                               set_known(metadata, LM_KEYSCALE, request->keyscale, error) &&
                               set_known(metadata, LM_TIMESIGNATURE, request->timesignature, error) &&
                               set_positive(metadata, LM_DURATION, request->duration, 0, error),
                           metadata);
}

bool lm_metadata_for_inspiration(const lm_request *request, lm_metadata *metadata, ace_error *error)
{
    lm_slice language = lm_trim(lm_slice_of(request->language));
    if (language.length == 0 || lm_is_word(language, "unknown")) return true;
    return lm_metadata_set_text(metadata, LM_LANGUAGE, language, error);
}

bool lm_metadata_for_format(const lm_request *request, lm_metadata *metadata, ace_error *error)
{
    return released_unless(set_positive(metadata, LM_BPM, request->bpm, 1, error) &&
                               set_positive(metadata, LM_DURATION, request->duration, 1, error) &&
                               set_verbatim(metadata, LM_KEYSCALE, request->keyscale, error) &&
                               set_verbatim(metadata, LM_TIMESIGNATURE, request->timesignature, error) &&
                               set_verbatim(metadata, LM_LANGUAGE, request->language, error),
                           metadata);
}

/* ---- to a song --------------------------------------------------------------------------------------------- */

void lm_song_free(lm_song *song)
{
    free(song->caption);
    free(song->lyrics);
    free(song->keyscale);
    free(song->language);
    free(song->timesignature);
    *song = (lm_song){0};
}

/* The value as a number of any kind; 0 when it is none or not positive. */
static double positive_number(const lm_value *value)
{
    double number = 0;
    if (value->kind == LM_INTEGER) number = (double)value->integer;
    if (value->kind == LM_NUMBER) number = value->number;
    if (value->kind == LM_TEXT && !lm_number(lm_slice_of(value->text), &number)) number = 0;
    return number > 0 && isfinite(number) ? number : 0;
}

/* The value as an integer above 0, else 0. Text is never one: the parser has turned what it could. */
static int64_t positive_integer(const lm_value *value)
{
    if (value->kind == LM_NUMBER && value->number >= 1 && value->number < 1e15) return (int64_t)value->number;
    return value->kind == LM_INTEGER && value->integer > 0 ? value->integer : 0;
}

/* The value as text, "" when it is absent or N/A. Caller frees; NULL for lack of memory. */
static char *text_or_nothing(const lm_value *value, ace_error *error)
{
    ace_text text = {0};
    if (value->kind != LM_TEXT || strcmp(value->text, "N/A") != 0) lm_value_write(&text, value);
    return ace_text_take(&text, error);
}

/* The request's text where it has any, else the model's. */
static char *filled(const char *given, const lm_value *planned, ace_error *error)
{
    return given && *given ? ace_strdup(given, error) : text_or_nothing(planned, error);
}

static bool finished(lm_song *song)
{
    bool ok = song->caption && song->lyrics && song->keyscale && song->language && song->timesignature;
    if (!ok) lm_song_free(song);
    return ok;
}

bool lm_song_merge(lm_profile profile, const lm_request *request, const lm_metadata *planned, bool rewrite, bool detect,
                   lm_song *song, ace_error *error)
{
    const lm_value *fields = planned->fields;
    bool no_language = lm_blank(request->language) || lm_is_word(lm_trim(lm_slice_of(request->language)), "unknown");
    bool detected = detect && no_language && profile != LM_PROFILE_OFFICIAL && lm_metadata_has(planned, LM_LANGUAGE);
    /* The reference takes a planned caption, even an empty one, whenever rewriting is on. */
    const lm_value *caption = rewrite && lm_metadata_has(planned, LM_CAPTION) ? &fields[LM_CAPTION] : NULL;
    ace_text rewritten = {0};
    if (caption) lm_value_write(&rewritten, caption);
    song->caption =
        caption ? ace_text_take(&rewritten, error) : ace_strdup(request->caption ? request->caption : "", error);
    song->lyrics = ace_strdup(request->lyrics ? request->lyrics : "", error);
    song->language = detected ? text_or_nothing(&fields[LM_LANGUAGE], error)
                              : ace_strdup(request->language ? request->language : "", error);
    song->keyscale = filled(request->keyscale, &fields[LM_KEYSCALE], error);
    song->timesignature = filled(request->timesignature, &fields[LM_TIMESIGNATURE], error);
    song->bpm = request->bpm >= 1 && request->bpm < 1e15 ? (int64_t)request->bpm : positive_integer(&fields[LM_BPM]);
    song->duration = lm_target_duration(request->duration, planned);
    return finished(song);
}

bool lm_song_assemble(lm_profile profile, const lm_metadata *written, const lm_metadata *given, const char *lyrics,
                      lm_song *song, ace_error *error)
{
    if (lm_metadata_is_empty(written))
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the language model's answer has no metadata; another seed or a lower temperature may help");
    const lm_value *fields[LM_FIELD_COUNT];
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) {
        bool fill = given && !lm_metadata_has(written, field) && profile != LM_PROFILE_OFFICIAL;
        fields[field] = fill ? &given->fields[field] : &written->fields[field];
    }
    ace_text caption = {0};
    lm_value_write(&caption, fields[LM_CAPTION]);
    song->caption = ace_text_take(&caption, error);
    song->lyrics = ace_strdup(lyrics, error);
    song->keyscale = text_or_nothing(fields[LM_KEYSCALE], error);
    song->language = text_or_nothing(fields[LM_LANGUAGE], error);
    song->timesignature = text_or_nothing(fields[LM_TIMESIGNATURE], error);
    song->bpm = positive_integer(fields[LM_BPM]);
    song->duration = positive_number(fields[LM_DURATION]);
    return finished(song);
}

double lm_target_duration(double requested, const lm_metadata *planned)
{
    return requested > 0 ? requested : positive_number(&planned->fields[LM_DURATION]);
}
