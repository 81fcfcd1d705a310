/* fields.c - a request from the command line. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ace_request *request_of(void *target)
{
    return ((cli_wish *)target)->request;
}

/* ---- options ---- */

static bool set_field_from_file(void *target, const char *field, const char *path, ace_error *error)
{
    char *text = cli_read_text(path, error);
    bool ok = text && ace_request_set(request_of(target), field, text, error);
    free(text);
    if (!ok && error->status == ACE_ERROR_USAGE) {
        char whole[sizeof error->message];
        snprintf(whole, sizeof whole, "%.200s: %.780s", path, error->message);
        memcpy(error->message, whole, sizeof whole);
    }
    return ok;
}

static bool set_lyrics(void *target, const char *value, ace_error *error)
{
    return set_field_from_file(target, "lyrics", value, error);
}

static bool set_lyrics_text(void *target, const char *value, ace_error *error)
{
    return ace_request_set(request_of(target), "lyrics", value, error);
}

static bool set_codes(void *target, const char *value, ace_error *error)
{
    return set_field_from_file(target, "audio_codes", value, error);
}

static bool set_codes_text(void *target, const char *value, ace_error *error)
{
    return ace_request_set(request_of(target), "audio_codes", value, error);
}

static bool load_request(void *target, const char *path, ace_error *error)
{
    if (strcmp(path, "-") != 0) return ace_request_load(request_of(target), path, error);
    char *text = cli_read_text(path, error);
    bool ok = text && ace_request_read(request_of(target), text, strlen(text), error);
    free(text);
    return ok;
}

const cli_option cli_request_options[] = {
    {"--lyrics", "-l", "FILE", "lyrics from a text file; - is standard input", set_lyrics},
    {"--lyrics-text", NULL, "TEXT", "lyrics from the command line", set_lyrics_text},
    {"--audio-codes", NULL, "FILE", "follow a plan of audio codes from a file", set_codes},
    {"--audio-codes-text", NULL, "TEXT", "the plan from the command line", set_codes_text},
    {"--request", NULL, "FILE", "take the request from JSON, or from a song made by this program; - is standard input",
     load_request},
    {"--from", NULL, "FILE", "the same", load_request},
};
const size_t cli_request_option_count = sizeof cli_request_options / sizeof *cli_request_options;

/* ---- arguments ---- */

bool cli_caption(void *target, const char *value, ace_error *error)
{
    char *old = ace_request_get(request_of(target), "caption", error);
    bool first = old && !*old;
    free(old);
    if (!first) return cli_misused(error, "a second caption '%.60s': put the caption in quotation marks", value);
    return ace_request_set(request_of(target), "caption", value, error);
}

int cli_any_field(void *target, const char *name, const char *inline_value, const char *next, int *used,
                  ace_error *error)
{
    char field[64];
    if (strncmp(name, "--", 2) != 0) return 0;
    snprintf(field, sizeof field, "%s", name + 2);
    for (char *p = field; *p; p++)
        if (*p == '-') *p = '_';
    bool negated = strncmp(field, "no_", 3) == 0;
    ace_error unknown = {0};
    const char *key = negated ? field + 3 : field;
    char *value = ace_request_get(request_of(target), key, &unknown);
    if (!value) return 0;
    free(value);
    bool is_switch = false;
    for (size_t i = 0; i < ace_field_count(); i++)
        if (strcmp(ace_field_at(i)->name, key) == 0) is_switch = strcmp(ace_field_at(i)->values, "true or false") == 0;
    if (negated && !is_switch) return 0;
    const char *given = inline_value ? inline_value : is_switch ? negated ? "false" : "true" : next;
    if (!given) {
        cli_misused(error, "%s needs a value", name);
        return -1;
    }
    *used = inline_value || is_switch ? 1 : 2;
    return ace_request_set(request_of(target), key, given, error) ? 1 : -1;
}

/* ---- help ---- */

void cli_print_fields(void)
{
    static const char *const elsewhere[] = {"caption", "lyrics", "audio_codes", "audio_format"};
    for (size_t i = 0; i < ace_field_count(); i++) {
        const ace_field *f = ace_field_at(i);
        bool skip = false;
        for (size_t k = 0; k < sizeof elsewhere / sizeof *elsewhere; k++) skip |= strcmp(f->name, elsewhere[k]) == 0;
        if (skip) continue;
        char name[64];
        snprintf(name, sizeof name, "--%s", f->name);
        for (char *p = name; *p; p++)
            if (*p == '_') *p = '-';
        printf("  %-28s %s\n  %-28s   %s; unset: %s\n", name, f->meaning, "", f->values, f->preset);
    }
}
