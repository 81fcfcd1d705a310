/* words.c - acestep write, format and understand: the planner's words, as a request to be read, edited or generated. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct words {
    cli_wish wish; /* first: option setters write here */
    const char *output, *recording;
    bool replace, json, quiet;
} words;

typedef ace_request *words_call(const words *w, ace_engine *engine, const ace_callbacks *callbacks, ace_error *error);

/* ---- options ---- */

static bool set_output(void *target, const char *value, ace_error *error)
{
    if (!*value) return cli_misused(error, "--output needs the name of a file");
    ((words *)target)->output = value;
    return true;
}

#define SWITCH(member)                                                          \
    static bool set_##member(void *target, const char *value, ace_error *error) \
    {                                                                           \
        (void)value;                                                            \
        (void)error;                                                            \
        return ((words *)target)->member = true;                                \
    }
SWITCH(replace)
SWITCH(json)
SWITCH(quiet)

static const cli_option options[] = {
    {"--output", "-o", "FILE", "write the request as JSON, for generate --request", set_output},
    {"--force", "-f", NULL, "overwrite an existing file", set_replace},
    {"--json", NULL, NULL, "the request as JSON on standard output (the default where that is no terminal)", set_json},
    {"--quiet", "-q", NULL, "no progress", set_quiet},
};
enum { OPTIONS = sizeof options / sizeof *options };

static bool set_recording(void *target, const char *value, ace_error *error)
{
    words *w = target;
    if (w->recording) return cli_misused(error, "a second recording '%.200s': give one at a time", value);
    w->recording = value;
    return true;
}

static void print_common_help(void)
{
    printf("\nOptions\n");
    cli_print_options(options, OPTIONS);
    printf("\nThe request\n");
    cli_print_options(cli_request_options, cli_request_option_count);
    printf("\nThe model and how it runs\n");
    cli_print_options(cli_engine_options, cli_engine_option_count);
    printf("\nHow the planner chooses: --seed, --lm-temperature, --lm-top-p, --lm-top-k, --lm-repetition-penalty; see\n"
           "`acestep generate --help`.\n");
}

/* ---- showing ---- */

static void print_field(const ace_request *request, const char *label, const char *field, const char *unit)
{
    ace_error error = {0};
    char *value = ace_request_get(request, field, &error);
    if (value && *value) printf("%-15s %s%s\n", label, value, unit);
    free(value);
}

/* Five codes are a second of music. */
static void print_codes(const ace_request *request)
{
    ace_error error = {0};
    int count = 0;
    char *codes = ace_request_get(request, "audio_codes", &error);
    for (const char *p = codes; p && (p = strstr(p, "<|audio_code_")); p++) count++;
    if (count > 0) printf("%-15s %d (%.1f s); --json shows them\n", "audio codes", count, count / 5.0);
    free(codes);
}

static void print_readable(const ace_request *request)
{
    ace_error error = {0};
    print_field(request, "caption", "caption", "");
    print_field(request, "language", "vocal_language", "");
    print_field(request, "tempo", "bpm", " beats per minute");
    print_field(request, "key", "keyscale", "");
    print_field(request, "time signature", "timesignature", "");
    print_field(request, "duration", "duration", " s");
    print_field(request, "seed", "seed", "");
    print_codes(request);
    char *lyrics = ace_request_get(request, "lyrics", &error);
    if (lyrics && *lyrics) printf("\n%s\n", lyrics);
    free(lyrics);
}

static bool show(const words *w, const ace_request *request, ace_error *error)
{
    if (w->output && !ace_request_save(request, w->output, w->replace, error)) return false;
    if (w->output && !w->json) {
        if (!w->quiet) fprintf(stderr, "%s\n", w->output);
        return true;
    }
    if (!w->json && isatty(STDOUT_FILENO) == 1) {
        print_readable(request);
        return true;
    }
    char *json = ace_request_to_json(request, error);
    if (json) printf("%s\n", json);
    free(json);
    return json != NULL;
}

/* ---- running ---- */

static int run(words *w, words_call *call)
{
    ace_error error = {0};
    cli_progress progress;
    cli_progress_begin(&progress, false, w->quiet);
    ace_callbacks callbacks = cli_progress_callbacks(&progress);
    w->wish.engine.warning = callbacks.warning;
    w->wish.engine.user = callbacks.user;
    cli_find_model(&w->wish.engine);
    ace_engine *engine = ace_engine_open(&w->wish.engine, &error);
    if (!engine) return cli_fail(&error, w->json);
    cli_interrupt_stops(engine);
    ace_request *written = call(w, engine, &callbacks, &error);
    cli_progress_end(&progress);
    int code = written && show(w, written, &error) ? 0 : cli_fail(&error, w->json);
    if (fflush(stdout) != 0 && code == 0) code = ACE_ERROR_IO;
    cli_interrupt_stops(NULL);
    ace_request_free(written);
    ace_engine_close(engine);
    return code;
}

static int command(int count, char **arguments, bool (*positional)(void *, const char *, ace_error *),
                   void (*print_help)(void), words_call *call)
{
    ace_error error = {0};
    bool help;
    words w = {.wish.request = ace_request_new(&error)};
    if (!w.wish.request) return cli_fail(&error, false);
    cli_parser parser = {.options = options,
                         .count = OPTIONS,
                         .more = cli_request_options,
                         .more_count = cli_request_option_count,
                         .target = &w,
                         .positional = positional,
                         .unknown = cli_any_field};
    for (int i = 0; i < count; i++) w.json = w.json || strcmp(arguments[i], "--json") == 0;
    int code = 0;
    if (!cli_parse(&parser, count, arguments, &help, &error))
        code = cli_fail(&error, w.json);
    else if (help)
        print_help();
    else
        code = run(&w, call);
    ace_request_free(w.wish.request);
    return code;
}

/* ---- write ---- */

static void help_write(void)
{
    printf("acestep write - an idea becomes a song on paper: caption, lyrics and metadata\n"
           "\n"
           "    acestep write \"a soft Bengali love song for a quiet evening\"\n"
           "  Kept, edited by hand, and made:\n"
           "    acestep write \"sea shanty about a lost sock\" --vocal-language en -o shanty.json\n"
           "    acestep --request shanty.json -o shanty.flac\n"
           "  Without words; straight on to the song:\n"
           "    acestep write \"storm over a desert\" --instrumental | acestep --request - -o storm.flac\n");
    print_common_help();
}

static ace_request *do_write(const words *w, ace_engine *engine, const ace_callbacks *callbacks, ace_error *error)
{
    return ace_write(engine, w->wish.request, callbacks, error);
}

int command_write(int count, char **arguments)
{
    return command(count, arguments, cli_caption, help_write, do_write);
}

/* ---- format ---- */

static void help_format(void)
{
    printf("acestep format - a draft becomes structured lyrics, a full caption and metadata that fit\n"
           "\n"
           "    acestep format \"Latin pop, reggaeton\" --lyrics draft.txt -o song.json\n"
           "  What is given stays:\n"
           "    acestep format \"K-pop ballad\" -l draft.txt --bpm 72 --key \"A minor\" --vocal-language ko\n");
    print_common_help();
}

static ace_request *do_format(const words *w, ace_engine *engine, const ace_callbacks *callbacks, ace_error *error)
{
    return ace_format(engine, w->wish.request, callbacks, error);
}

int command_format(int count, char **arguments)
{
    return command(count, arguments, cli_caption, help_format, do_format);
}

/* ---- understand ---- */

static void help_understand(void)
{
    printf("acestep understand - a recording becomes caption, lyrics, metadata and audio codes\n"
           "\n"
           "  Any file that can be decoded (WAV, FLAC, MP3, Ogg, Opus, ...) at any rate, up to 600 s of it:\n"
           "    acestep understand song.mp3\n"
           "  The plan of a recording, and a new song that follows it:\n"
           "    acestep understand song.mp3 -o plan.json\n"
           "    acestep --request plan.json -o like-it.flac\n"
           "  Audio codes alone:\n"
           "    acestep understand --audio-codes codes.txt\n");
    print_common_help();
}

static ace_request *do_understand(const words *w, ace_engine *engine, const ace_callbacks *callbacks, ace_error *error)
{
    return ace_understand(engine, w->recording, w->wish.request, callbacks, error);
}

int command_understand(int count, char **arguments)
{
    return command(count, arguments, set_recording, help_understand, do_understand);
}
