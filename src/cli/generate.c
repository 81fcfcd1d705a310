/* generate.c - acestep generate: one request from the command line, files out. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct generate {
    cli_wish wish; /* first: option setters write here */
    const char *output;
    bool replace, no_sidecar, json, quiet;
    bool plan_only, codes_only;
} generate;

/* ---- options ---- */

static bool set_format(void *target, const char *value, ace_error *error)
{
    return ace_request_set(((generate *)target)->wish.request, "audio_format", value, error);
}

static bool set_output(void *target, const char *value, ace_error *error)
{
    if (!*value) return cli_misused(error, "--output needs the name of a file");
    ((generate *)target)->output = value;
    return true;
}

static bool set_stop_after(void *target, const char *value, ace_error *error)
{
    if (strcmp(value, "plan") != 0) return cli_misused(error, "--stop-after cannot be '%.40s': give plan", value);
    return ((generate *)target)->plan_only = true;
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
SWITCH(codes_only)

static const cli_option options[] = {
    {"--output", "-o", "FILE", "the song (default: song.flac, or the next free song-N.flac)", set_output},
    {"--format", NULL, "KIND", "wav, wav24, wav32, flac, flac16, mp3 or opus (default: by the extension)", set_format},
    {"--stop-after", NULL, "plan", "print the planned request as JSON (or -o FILE) instead of making the song",
     set_stop_after},
    {"--codes-only", NULL, NULL, "print the planned audio codes alone, a line for each song", set_codes_only},
    {"--force", "-f", NULL, "overwrite existing files", set_replace},
    {"--no-sidecar", NULL, NULL, "do not write FILE.json beside the song", set_no_sidecar},
    {"--json", NULL, NULL, "events as JSON lines on standard output", set_json},
    {"--quiet", "-q", NULL, "no progress", set_quiet},
};
enum { OPTIONS = sizeof options / sizeof *options };

static void print_help(void)
{
    printf(
        "acestep generate - make a song\n"
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
        "  With a planner (a 5 Hz language model beside the checkpoint) the song is planned first. The plan by hand,\n"
        "  in two steps; or without a plan:\n"
        "    acestep \"soft bossa nova\" --stop-after plan -o plan.json      # edit plan.json, then\n"
        "    acestep --request plan.json -o song.flac\n"
        "    acestep \"soft bossa nova\" --lm none\n"
        "  Less memory, same bytes; another model:\n"
        "    acestep \"lo-fi beat\" --vae-window 25 --model Ace-Step1.5 --dit acestep-v15-xl-turbo\n"
        "\n"
        "Files and display\n");
    cli_print_options(options, OPTIONS);
    printf("\nThe request\n");
    cli_print_options(cli_request_options, cli_request_option_count);
    printf("\nThe model and how it runs\n");
    cli_print_options(cli_engine_options, cli_engine_option_count);
    printf("\nThe song (unset: the checkpoint's preset; all fields also in --request JSON)\n");
    cli_print_fields();
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

static bool make_songs(generate *g, ace_engine *engine, const ace_callbacks *callbacks, ace_error *error)
{
    ace_result result = {0};
    char name[64];
    choose_output(g, name, sizeof name);
    ace_output output = {.path = g->output, .replace = g->replace, .no_sidecar = g->no_sidecar};
    bool ok = ace_generate_files(engine, g->wish.request, &output, callbacks, &result, error);
    cli_progress_end(callbacks->user);
    print_result(g, &result, ok);
    ace_result_free(&result);
    return ok;
}

/* "plan.json" for one song, "plan-2.json" for the second of several. */
static void plan_path(const char *path, int song, int count, char *name, size_t size)
{
    const char *dot = strrchr(path, '.');
    int stem = dot && dot > path && !strchr(dot, '/') ? (int)(dot - path) : (int)strlen(path);
    if (count > 1)
        snprintf(name, size, "%.*s-%d%s", stem, path, song + 1, path + stem);
    else
        snprintf(name, size, "%s", path);
}

static bool show_plan(const generate *g, const ace_composition *plan, int song, ace_error *error)
{
    char name[4096];
    if (g->output) {
        plan_path(g->output, song, plan->count, name, sizeof name);
        if (!ace_request_save(plan->songs[song], name, g->replace, error)) return false;
        if (!g->json && !g->quiet) fprintf(stderr, "%s\n", name);
        if (!g->codes_only) return true;
    }
    char *text = g->codes_only ? ace_request_get(plan->songs[song], "audio_codes", error)
                               : ace_request_to_json(plan->songs[song], error);
    if (text) printf("%s\n", text);
    free(text);
    return text != NULL;
}

static bool make_plans(const generate *g, ace_engine *engine, const ace_callbacks *callbacks, ace_error *error)
{
    ace_composition plan;
    bool ok = ace_compose(engine, g->wish.request, callbacks, &plan, error);
    cli_progress_end(callbacks->user);
    for (int i = 0; ok && i < plan.count; i++) ok = show_plan(g, &plan, i, error);
    ace_composition_free(&plan);
    return ok;
}

static int run(generate *g)
{
    ace_error error = {0};
    cli_progress progress;
    bool plan = g->plan_only || g->codes_only;
    cli_progress_begin(&progress, g->json && !plan, g->quiet);
    ace_callbacks callbacks = cli_progress_callbacks(&progress);
    g->wish.engine.warning = callbacks.warning;
    g->wish.engine.user = callbacks.user;
    cli_find_model(&g->wish.engine);
    ace_engine *engine = ace_engine_open(&g->wish.engine, &error);
    if (!engine) return cli_fail(&error, g->json);
    cli_interrupt_stops(engine);
    bool ok = plan ? make_plans(g, engine, &callbacks, &error) : make_songs(g, engine, &callbacks, &error);
    int code = ok ? 0 : cli_fail(&error, g->json);
    if (fflush(stdout) != 0 && code == 0) code = ACE_ERROR_IO;
    cli_interrupt_stops(NULL);
    ace_engine_close(engine);
    return code;
}

int command_generate(int count, char **arguments)
{
    ace_error error = {0};
    bool help;
    generate g = {.wish.request = ace_request_new(&error)};
    if (!g.wish.request) return cli_fail(&error, false);
    cli_parser parser = {.options = options,
                         .count = OPTIONS,
                         .more = cli_request_options,
                         .more_count = cli_request_option_count,
                         .target = &g,
                         .positional = cli_caption,
                         .unknown = cli_any_field};
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
    ace_request_free(g.wish.request);
    return code;
}
