/* terminal.c - what the user sees: progress, warnings, errors; and Ctrl-C. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- text ---- */

void cli_json_string(const char *text)
{
    putchar('"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            printf("\\%c", *p);
        else if (*p < 0x20)
            printf("\\u%04x", *p);
        else
            putchar(*p);
    }
    putchar('"');
}

const char *cli_minutes(double seconds, char buffer[32])
{
    long whole = (long)(seconds + 0.5);
    if (whole >= 3600)
        snprintf(buffer, 32, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(buffer, 32, "%ld:%02ld", whole / 60, whole % 60);
    return buffer;
}

static char *fail_text(ace_error *error, ace_status status, const char *path, const char *why)
{
    error->status = status;
    snprintf(error->message, sizeof error->message, "cannot read '%.400s': %s", path, why);
    return NULL;
}

/* CR LF and CR become LF; a byte order mark goes. */
static void clean_lines(char *text)
{
    char *out = text;
    const char *in = strncmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;
    for (; *in; in++) {
        if (*in == '\r' && in[1] == '\n') continue;
        *out++ = *in == '\r' ? '\n' : *in;
    }
    *out = '\0';
}

char *cli_read_text(const char *path, ace_error *error)
{
    enum { LIMIT = 1 << 20 };
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (!file) return fail_text(error, ACE_ERROR_IO, path, strerror(errno));
    char *text = malloc(LIMIT + 2);
    size_t n = text ? fread(text, 1, LIMIT + 1, file) : 0;
    bool failed = ferror(file) != 0;
    int cause = errno;
    if (file != stdin) fclose(file);
    const char *why = !text                   ? "not enough memory"
                      : failed                ? strerror(cause)
                      : n > LIMIT             ? "it is longer than 1 MiB; is it the right file?"
                      : memchr(text, '\0', n) ? "it holds NUL bytes, so it is not a text; save it as UTF-8"
                                              : NULL;
    if (why) {
        free(text);
        return fail_text(error, !text ? ACE_ERROR_MEMORY : failed ? ACE_ERROR_IO : ACE_ERROR_USAGE, path, why);
    }
    text[n] = '\0';
    clean_lines(text);
    return text;
}

/* ---- ending ---- */

int cli_fail(const ace_error *error, bool json)
{
    if (json) {
        printf("{\"event\":\"error\",\"status\":%d,\"message\":", (int)error->status);
        cli_json_string(error->message);
        printf("}\n");
        fflush(stdout);
    } else {
        fprintf(stderr, "acestep: %s\n", error->message);
    }
    return (int)error->status;
}

/* ---- Ctrl-C: a signal handler can reach nothing but a global ---- */

static _Atomic(ace_engine *) interrupted_engine;

static void on_signal(int signal)
{
    (void)signal;
    ace_engine *engine = atomic_load(&interrupted_engine);
    if (engine) ace_engine_stop(engine);
}

void cli_interrupt_stops(ace_engine *engine)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    atomic_store(&interrupted_engine, engine);
    struct sigaction action = {.sa_handler = engine ? on_signal : SIG_DFL};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
    /* a full disk or a closed pipe is reported where it is met, not by a silent death */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- progress ---- */

void cli_progress_begin(cli_progress *progress, bool json, bool quiet)
{
    *progress = (cli_progress){.json = json, .quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
}

static void show_json(const ace_progress *p)
{
    printf("{\"event\":\"progress\",\"stage\":\"%s\",\"done\":%lld,\"total\":%lld,\"unit\":\"%s\",\"elapsed_s\":%.3f,",
           ace_stage_name(p->stage), (long long)p->done, (long long)p->total, p->unit, p->elapsed);
    if (p->rate > 0) printf("\"rate_per_s\":%.3f,", p->rate);
    if (p->stage_remaining >= 0) printf("\"stage_remaining_s\":%.3f,", p->stage_remaining);
    if (p->remaining >= 0) printf("\"remaining_s\":%.3f,", p->remaining);
    printf("\"audio_s\":%.2f}\n", p->audio_seconds);
    fflush(stdout);
}

static void show_line(cli_progress *progress, const ace_progress *p)
{
    enum { WIDTH = 24 };
    char bar[WIDTH + 1], time[32];
    int filled = p->total > 0 ? (int)(p->done * WIDTH / p->total) : 0;
    memset(bar, ' ', WIDTH);
    memset(bar, '=', (size_t)(filled > WIDTH ? WIDTH : filled));
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r\033[K%-9s [%s] %lld", ace_stage_name(p->stage), bar, (long long)p->done);
    if (p->total > 0) fprintf(stderr, "/%lld", (long long)p->total);
    fprintf(stderr, " %s  %s", p->unit, cli_minutes(p->elapsed, time));
    if (p->rate > 0 && p->stage == ACE_STAGE_PLAN) fprintf(stderr, "  %.1f %s/s", p->rate, p->unit);
    if (p->remaining >= 0)
        fprintf(stderr, "  ETA %s  %.2fx realtime", cli_minutes(p->remaining, time),
                p->audio_seconds / (p->elapsed + p->remaining));
    else if (p->stage_remaining >= 0 && p->stage != ACE_STAGE_LOAD)
        fprintf(stderr, "  %s of this stage to come", cli_minutes(p->stage_remaining, time));
    fflush(stderr);
    progress->drawn = true;
}

void cli_progress_show(cli_progress *progress, const ace_progress *p)
{
    bool new_stage = !progress->begun || p->stage != progress->stage;
    bool due = new_stage || p->done == p->total || p->elapsed - progress->last > 0.1;
    progress->begun = true;
    progress->stage = p->stage;
    if (!due) return;
    progress->last = p->elapsed;
    if (progress->json) {
        show_json(p);
    } else if (progress->quiet) {
        return;
    } else if (progress->terminal) {
        show_line(progress, p);
    } else if (!(progress->announced & 1u << p->stage)) {
        progress->announced |= 1u << p->stage;
        fprintf(stderr, "%s (%.1f s)\n", ace_stage_name(p->stage), p->elapsed);
    }
}

void cli_progress_warning(cli_progress *progress, const char *sentence)
{
    cli_progress_end(progress);
    if (progress->json) {
        printf("{\"event\":\"warning\",\"message\":");
        cli_json_string(sentence);
        printf("}\n");
        fflush(stdout);
    } else {
        fprintf(stderr, "warning: %s\n", sentence);
    }
}

static void on_progress(void *user, const ace_progress *p)
{
    cli_progress_show(user, p);
}

static void on_warning(void *user, const char *sentence)
{
    cli_progress_warning(user, sentence);
}

ace_callbacks cli_progress_callbacks(cli_progress *progress)
{
    return (ace_callbacks){.user = progress, .progress = on_progress, .warning = on_warning};
}

void cli_progress_end(cli_progress *progress)
{
    if (progress->drawn) fprintf(stderr, "\r\033[K");
    progress->drawn = false;
}
