/* The first byte says how the rest, a language model's answer, is read: bit 0 is the official profile, the others say
 * which fields the user gave. What was read is written as a plan and read again. */
#include "lm/lm_parse.h"
#include "lm/lm_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

static bool is_trimmed(const char *text)
{
    return lm_trim(lm_slice_of(text)).length == strlen(text);
}

static void check_metadata(lm_profile profile, const lm_metadata *given, const lm_metadata *metadata)
{
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) {
        const lm_value *value = &metadata->fields[field];
        require((value->kind == LM_TEXT) == (value->text != NULL), "text has text");
        require(value->kind != LM_NUMBER, "the parser makes integers and text");
        if (value->kind != LM_TEXT) continue;
        require(ace_utf8_valid(value->text, strlen(value->text), NULL), "values are UTF-8");
        require(profile != LM_PROFILE_OFFICIAL || is_trimmed(value->text), "values are trimmed");
        if (profile == LM_PROFILE_OFFICIAL || lm_metadata_has(given, field)) continue;
        lm_slice text = lm_slice_of(value->text);
        require(field != LM_KEYSCALE || lm_is_keyscale(text), "a key is a key");
        require(field != LM_LANGUAGE || lm_is_language(text), "a language is a language");
        require(field != LM_TIMESIGNATURE || lm_is_timesignature(text), "a time signature is one");
    }
}

/* U+0085, U+2028 and U+2029 break lines in YAML, too. */
static bool begins_with_break(const char *line)
{
    return strncmp(line, "\xc2\x85", 2) == 0 || strncmp(line, "\u2028", 3) == 0 || strncmp(line, "\u2029", 3) == 0;
}

/* Every line of a plan begins a field, continues one, or is empty. */
static void check_plan(const char *plan)
{
    require(strncmp(plan, "<think>\n", 8) == 0, "a plan begins");
    const char *line = plan + 8;
    for (const char *end; (end = strchr(line, '\n')); line = end + 1) {
        bool known = end == line || strncmp(line, "  ", 2) == 0 || begins_with_break(line);
        for (lm_field field = 0; field < LM_FIELD_COUNT && !known; field++) {
            size_t n = strlen(lm_field_name(field));
            known = strncmp(line, lm_field_name(field), n) == 0 && line[n] == ':';
        }
        require(known, "every line of a plan belongs to a field");
    }
    require(strcmp(line, "</think>") == 0, "and ends");
}

static void use_metadata(lm_profile profile, const char *text, size_t n, const lm_metadata *given)
{
    lm_metadata metadata = {0}, again = {0};
    ace_error error = {0};
    require(lm_parse_metadata(profile, text, n, given, &metadata, &error), "every answer can be read");
    check_metadata(profile, given, &metadata);
    char *plan = lm_prompt_think(&metadata, &error);
    require(plan != NULL, "and written");
    check_plan(plan);
    require(lm_parse_metadata(profile, plan, strlen(plan), given, &again, &error), "and read again");
    check_metadata(profile, given, &again);
    lm_field numbers[] = {LM_BPM, LM_DURATION};
    bool one_end = strcmp(strstr(plan, "</think>"), "</think>") == 0; /* a caption may contain another */
    for (int i = 0; i < 2 && one_end; i++) {
        const lm_value *value = &metadata.fields[numbers[i]];
        require(value->kind != LM_INTEGER || again.fields[numbers[i]].integer == value->integer, "numbers stay");
    }
    free(plan);
    lm_metadata_free(&metadata);
    lm_metadata_free(&again);
}

static void use_rest(lm_profile profile, const char *text, size_t n)
{
    ace_error error = {0};
    char *lyrics = lm_parse_lyrics(profile, text, n, &error);
    require(lyrics && is_trimmed(lyrics), "lyrics are trimmed");
    free(lyrics);

    int32_t *codes, *again;
    size_t count, count_again, clamped;
    require(lm_parse_codes(text, n, &codes, &count, &clamped, &error) && clamped <= count, "codes can be read");
    for (size_t i = 0; i < count; i++) require(codes[i] >= 0 && codes[i] < 64000, "codes are in range");
    ace_text out = {0};
    ace_text_add(&out, "");
    lm_write_codes(&out, codes, count);
    require(lm_parse_codes(out.data, out.length, &again, &count_again, &clamped, &error), "and read again");
    require(count_again == count && clamped == 0 && memcmp(codes, again, count * sizeof *codes) == 0, "the same codes");
    free(codes);
    free(again);
    ace_text_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) return 0;
    lm_profile profile = data[0] & 1 ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT;
    const char *text = (const char *)data + 1;
    lm_metadata given = {0};
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++)
        if (data[0] >> (field + 1) & 1) lm_metadata_set_integer(&given, field, 1);
    if (ace_utf8_valid(text, n - 1, NULL)) {
        use_metadata(profile, text, n - 1, &given);
        use_rest(profile, text, n - 1);
    } else {
        lm_metadata metadata = {0};
        ace_error error = {0};
        require(!lm_parse_metadata(profile, text, n - 1, &given, &metadata, &error), "other bytes are refused");
        require(error.status == ACE_ERROR_USAGE, "and named");
        require(!lm_parse_lyrics(profile, text, n - 1, NULL), "here too");
    }
    lm_metadata_free(&given);
    return 0;
}
