/* generate.c - acestep generate: one request from the command line, files out. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct generate {
    ace_engine_options engine; /* first: the engine's option setters write here */
    ace_request *request;
    const char *output;
    bool replace, no_sidecar, json, quiet;
} generate;

static bool fail(ace_error *error, const char *format, const char *a, const char *b)
{
    error->status = ACE_ERROR_USAGE;
    snprintf(error->message, sizeof error->message, format, a, b);
    return false;
}

/* ---- options ---- */

static bool set_field(void *target, const char *field, const char *value, ace_error *error)
{
    return ace_request_set(((generate *)target)->request, field, value, error);
}

static bool set_field_from_file(void *target, const char *field, const char *path, ace_error *error)
{
    char *text = cli_read_text(path, error);
    bool ok = text && set_field(target, field, text, error);
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
    return set_field(target, "lyrics", value, error);
}

static bool set_codes(void *target, const char *value, ace_error *error)
{
    return set_field_from_file(target, "audio_codes", value, error);
}

static bool set_codes_text(void *target, const char *value, ace_error *error)
{
    return set_field(target, "audio_codes", value, error);
}

static bool set_format(void *target, const char *value, ace_error *error)
{
    return set_field(target, "audio_format", value, error);
}

static bool load_request(void *target, const char *path, ace_error *error)
{
    return ace_request_load(((generate *)target)->request, path, error);
}

static bool set_output(void *target, const char *value, ace_error *error)
{
    if (!*value) return fail(error, "--output needs the name of a file%s%s", "", "");
    ((generate *)target)->output = value;
    return true;
}

#define SWITCH(member)                                                          \
    static bool set_##member(void *target, const char *value, ace_error *error) \
    {                                                                           \
        (void)value;                                                            \
        (void)error;                                                            \
        return ((generate *)target)->member = true;                             \
    }
SWITCH(replace)
SWITCH(no_sidecar)
SWITCH(json)
SWITCH(quiet)

static const cli_option options[] = {
    {"--lyrics", "-l", "FILE", "lyrics from a text file; - is standard input", set_lyrics},
    {"--lyrics-text", NULL, "TEXT", "lyrics from the command line", set_lyrics_text},
    {"--audio-codes", NULL, "FILE", "follow a plan of audio codes from a file", set_codes},
    {"--audio-codes-text", NULL, "TEXT", "the plan from the command line", set_codes_text},
    {"--output", "-o", "FILE", "the song (default: song.flac, or the next free song-N.flac)", set_output},
    {"--format", NULL, "KIND", "wav, wav24, wav32, flac, flac16, mp3 or opus (default: by the extension)", set_format},
    {"--from", NULL, "FILE", "take the request from a song made by this program, or from JSON", load_request},
    {"--force", "-f", NULL, "overwrite existing files", set_replace},
    {"--no-sidecar", NULL, NULL, "do not write FILE.json beside the song", set_no_sidecar},
    {"--json", NULL, NULL, "events as JSON lines on standard output", set_json},
    {"--quiet", "-q", NULL, "no progress", set_quiet},
};
enum { OPTIONS = sizeof options / sizeof *options };

static bool set_caption(void *target, const char *value, ace_error *error)
{
    char *old = ace_request_get(((generate *)target)->request, "caption", error);
    bool first = old && !*old;
    free(old);
    if (!first) return fail(error, "a second caption '%.60s': put the caption in quotation marks%s", value, "");
    return set_field(target, "caption", value, error);
}

/* Every field of the request is an option: --bpm 120, --guidance-scale 5, --instrumental, --no-dcw-enabled. */
static int set_any_field(void *target, const char *name, const char *inline_value, const char *next, int *used,
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
    char *value = ace_request_get(((generate *)target)->request, key, &unknown);
    if (!value) return 0;
    free(value);
    bool is_switch = false;
    for (size_t i = 0; i < ace_field_count(); i++)
        if (strcmp(ace_field_at(i)->name, key) == 0) is_switch = strcmp(ace_field_at(i)->values, "true or false") == 0;
    if (negated && !is_switch) return 0;
    const char *given = inline_value ? inline_value : is_switch ? negated ? "false" : "true" : next;
    if (!given) {
        fail(error, "%s needs a value%s", name, "");
        return -1;
    }
    *used = inline_value || is_switch ? 1 : 2;
    return ace_request_set(((generate *)target)->request, key, given, error) ? 1 : -1;
}

static void print_help(void)
{
    printf("acestep generate - make a song\n"
           "\n"
           "  A song of a minute, words from a file:\n"
           "    acestep \"upbeat city pop, female vocal\" --lyrics words.txt --duration 60 -o song.flac\n"
           "  Four takes of an instrumental, seeds 7 to 10, as MP3 (take-1.mp3 ... take-4.mp3):\n"
           "    acestep \"slow piano, rain\" --instrumental --batch 4 --seed 7 -o take.mp3\n"
           "  Tempo and key fixed, Korean lyrics:\n"
           "    acestep \"K-pop ballad\" -l words.txt --language ko --bpm 72 --key \"A minor\"\n"
           "  The same song again, byte for byte, or the same with one thing changed:\n"
           "    acestep --from song.flac -o again.flac\n"
           "    acestep --from song.flac --bpm 128 -o faster.flac\n"
           "  Less memory, same bytes; another model:\n"
           "    acestep \"lo-fi beat\" --vae-window 25 --model Ace-Step1.5 --dit acestep-v15-xl-turbo\n"
           "\n"
           "Files and display\n");
    cli_print_options(options, OPTIONS);
    printf("\nThe model and how it runs\n");
    cli_print_options(cli_engine_options, cli_engine_option_count);
    printf("\nThe song (unset: the checkpoint's preset; all fields also in --from JSON)\n");
    for (size_t i = 0; i < ace_field_count(); i++) {
        const ace_field *f = ace_field_at(i);
        if (strcmp(f->name, "caption") == 0 || strcmp(f->name, "lyrics") == 0 || strcmp(f->name, "audio_codes") == 0 ||
            strcmp(f->name, "audio_format") == 0)
            continue;
        char name[64];
        snprintf(name, sizeof name, "--%s", f->name);
        for (char *p = name; *p; p++)
            if (*p == '_') *p = '-';
        printf("  %-28s %s\n  %-28s   %s; unset: %s\n", name, f->meaning, "", f->values, f->preset);
    }
}

/* ---- running ---- */

/* "song.flac", or "song-2.flac", "song-3.flac", ... if that exists: a default never collides. */
static void choose_output(generate *g, char *buffer, size_t size)
{
    struct stat info;
    if (g->output) return;
    snprintf(buffer, size, "song.flac");
    for (int i = 2; stat(buffer, &info) == 0 && !g->replace && i < 100000; i++)
        snprintf(buffer, size, "song-%d.flac", i);
    g->output = buffer;
}

static void on_progress(void *user, const ace_progress *p)
{
    cli_progress_show(user, p);
}

static void on_warning(void *user, const char *sentence)
{
    cli_progress_warning(user, sentence);
}

static void print_song_json(const ace_song *song)
{
    printf("{\"event\":\"song\",\"path\":");
    cli_json_string(song->path);
    printf(",\"seed\":%llu,\"seconds\":%.3f,\"frames\":%lld,\"sample_rate_hz\":48000,\"decoded_peak\":%.6f}\n",
           (unsigned long long)song->seed, (double)song->frames / 48000, (long long)song->frames, (double)song->peak);
}

static void print_result(const generate *g, const ace_result *result, bool ok)
{
    double audio = 0;
    for (int i = 0; i < result->count; i++) {
        const ace_song *song = &result->songs[i];
        bool written = song->path[0] != '\0';
        if (written) audio += (double)song->frames / 48000;
        if (g->json && written) print_song_json(song);
        if (!g->json && written)
            printf("%s  %.2f s  seed %llu\n", song->path, (double)song->frames / 48000, (unsigned long long)song->seed);
        if (!g->json && !written) fprintf(stderr, "not written: seed %llu\n", (unsigned long long)song->seed);
    }
    if (!ok) return;
    if (g->json)
        printf("{\"event\":\"done\",\"seconds\":%.3f,\"realtime_factor\":%.4f,\"planned_peak_bytes\":%zu,\"measured_"
               "peak_bytes\":%zu,"
               "\"model_xxh3_128\":\"%s\"}\n",
               result->seconds, audio / result->seconds, result->planned_peak, result->measured_peak,
               result->model_hash);
    else if (!g->quiet)
        fprintf(stderr, "%.1f s of music in %.1f s (%.2fx realtime), peak memory %.2f GiB\n", audio, result->seconds,
                audio / result->seconds, (double)result->measured_peak / 1073741824.0);
}

static int run(generate *g)
{
    ace_error error = {0};
    ace_result result = {0};
    cli_progress progress;
    char name[64];
    cli_progress_begin(&progress, g->json, g->quiet);
    g->engine.warning = on_warning;
    g->engine.user = &progress;
    cli_find_model(&g->engine);
    choose_output(g, name, sizeof name);
    ace_engine *engine = ace_engine_open(&g->engine, &error);
    if (!engine) return cli_fail(&error, g->json);
    cli_interrupt_stops(engine);
    ace_output output = {.path = g->output, .replace = g->replace, .no_sidecar = g->no_sidecar};
    ace_callbacks callbacks = {.user = &progress, .progress = on_progress, .warning = on_warning};
    bool ok = ace_generate_files(engine, g->request, &output, &callbacks, &result, &error);
    cli_progress_end(&progress);
    print_result(g, &result, ok);
    int code = ok ? 0 : cli_fail(&error, g->json);
    if (fflush(stdout) != 0 && code == 0) code = ACE_ERROR_IO;
    cli_interrupt_stops(NULL);
    ace_result_free(&result);
    ace_engine_close(engine);
    return code;
}

int command_generate(int count, char **arguments)
{
    ace_error error = {0};
    bool help;
    generate g = {.request = ace_request_new(&error)};
    if (!g.request) return cli_fail(&error, false);
    cli_parser parser = {options, OPTIONS, &g, set_caption, set_any_field};
    /* errors of the options, too, come as JSON when JSON is asked for */
    for (int i = 0; i < count; i++) g.json = g.json || strcmp(arguments[i], "--json") == 0;
    int code;
    if (!cli_parse(&parser, count, arguments, &help, &error)) {
        code = cli_fail(&error, g.json);
    } else if (help) {
        print_help();
        code = 0;
    } else {
        code = run(&g);
    }
    ace_request_free(g.request);
    return code;
}
