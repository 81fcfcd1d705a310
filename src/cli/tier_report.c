/* tier_report.c - what acestep tier-test tells: a table, rows to submit, the analysis of the boundaries, JSON. */
#include "tier_trial.h"

#include <string.h>

static double gib(size_t bytes)
{
    return (double)bytes / 1073741824.0;
}

static const char *result_word(const tier_trial *t)
{
    static const char *const words[] = {"not tried", "does not fit", "fits", "failed", "ok"};
    return words[t->outcome];
}

/* A short text by value, so that it may stand among the arguments of printf(). */
typedef struct cell {
    char s[48];
} cell;

/* "1.50", or "-" where nothing was measured. */
static cell number(double value)
{
    cell c = {"-"};
    if (value > 0) snprintf(c.s, sizeof c.s, "%.2f", value);
    return c;
}

/* "bf16", "bf16 int8". */
static cell weights(const tier_trial *t)
{
    cell c;
    bool plain = t->quantization[0] == '\0' || strcmp(t->quantization, "none") == 0;
    snprintf(c.s, sizeof c.s, "%s%s%s", t->precision, plain ? "" : " ", plain ? "" : t->quantization);
    return c;
}

static int songs_of(const tier_trial *t)
{
    return tier_succeeded(t) ? t->plan.batch : t->batch;
}

/* Of a song: what the tier left of what was asked for. */
static double seconds_of(const tier_trial *t)
{
    return t->plan.duration > 0 ? t->plan.duration : t->duration;
}

static const char *lm_name(const tier_trial *t)
{
    return t->with_lm && t->lm[0] ? t->lm : "-";
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

static void print_trials(const tier_trial *trials, int count)
{
    printf("%5s %-9s %-10s %-5s %5s %7s %8s %9s %8s %7s %7s %8s %8s  %s\n", "GB", "tier", "variant", "LM", "songs",
           "seconds", "planned", "measured", "wall s", "load s", "LM s", "DiT s", "VAE s", "result");
    for (int i = 0; i < count; i++) {
        const tier_trial *t = &trials[i];
        printf("%5s %-9s %-10s %-5.5s %5d %7g %8s %9s %8s %7s %7s %8s %8s  %s", t->size, t->tier,
               tier_variant_name(t->variant), lm_name(t), songs_of(t), seconds_of(t), number(gib(t->plan.peak)).s,
               number(gib(t->measured)).s, number(t->seconds).s, number(t->load).s, number(t->lm_seconds).s,
               number(t->dit).s, number(t->vae).s, result_word(t));
        if (t->error[0]) printf(": %s", t->error);
        if (t->note[0]) printf(" (%s)", t->note);
        printf("\n");
    }
}

/* How the songs were made to fit. */
static void print_way(const tier_trial *t)
{
    const ace_memory_plan *p = &t->plan;
    printf("%s%s%s%s", p->evicts ? "unloads between stages" : "everything loaded",
           p->streams_dit ? ", streams the DiT" : "", p->streams_text ? ", streams the text encoder" : "",
           p->one_by_one ? ", songs in turns" : "");
    if (p->planner_streamed > 0) printf(", streams %d of the LM's %d layers", p->planner_streamed, p->planner_layers);
    if (p->planner_alone) printf(", LM alone");
}

/* One for each size: what docs/gpu.md asks to be sent. */
static void print_rows(const tier_trial *trials, int count)
{
    printf(
        "\nTo submit (docs/gpu.md says how):\n\n"
        "| memory | tier | model | LM | song | planned GiB | measured GiB | seconds (LM / DiT / VAE) | how | device | "
        "version | result |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < count; i++) {
        const tier_trial *t = &trials[i];
        if (t->variant != TIER_DEFAULT) continue;
        printf("| %s GB | %s | %s, %s | %s | %d x %g s | %s | %s | %s (%s / %s / %s) | ", t->size, t->tier,
               t->checkpoint, weights(t).s, lm_name(t), songs_of(t), seconds_of(t), number(gib(t->plan.peak)).s,
               number(gib(t->measured)).s, number(t->seconds).s, number(t->lm_seconds).s, number(t->dit).s,
               number(t->vae).s);
        if (tier_succeeded(t)) print_way(t);
        printf(" | %s | %s | %s |\n", t->device, ace_version(), result_word(t));
    }
}

/* ---- the analysis ---------------------------------------------------------------------------------------------- */

/* The smallest size at which a variant succeeded; NULL: none. */
static const tier_trial *smallest(const tier_trial *trials, int count, tier_variant variant)
{
    const tier_trial *best = NULL;
    for (int i = 0; i < count; i++)
        if (trials[i].variant == variant && tier_succeeded(&trials[i]) && (!best || trials[i].gib < best->gib))
            best = &trials[i];
    return best;
}

static int largest_batch(const tier_trial *trials, int count, const char *size, bool with_lm)
{
    int largest = 0;
    for (int i = 0; i < count; i++) {
        const tier_trial *t = &trials[i];
        if (t->variant == TIER_BATCH && t->asked_lm == with_lm && strcmp(t->size, size) == 0 && tier_succeeded(t) &&
            t->batch > largest)
            largest = t->batch;
    }
    return largest;
}

static int configured_batch(const tier_trial *trials, int count, const char *size, bool with_lm)
{
    for (int i = 0; i < count; i++)
        if (trials[i].variant == TIER_BATCH && trials[i].asked_lm == with_lm && strcmp(trials[i].size, size) == 0)
            return trials[i].limit_batch;
    return 0;
}

static void print_boundaries(const tier_trial *trials, int count)
{
    static const struct {
        tier_variant variant;
        const char *what;
    } rows[] = {{TIER_NO_QUANT, "without quantization"}, {TIER_NO_OFFLOAD, "with everything kept loaded"}};
    printf("\nBOUNDARY ANALYSIS\n");
    for (int i = 0; i < 2; i++) {
        const tier_trial *t = smallest(trials, count, rows[i].variant);
        if (t)
            printf("  %-28s from %s GB (%s), peak %.2f GiB%s\n", rows[i].what, t->size, t->tier,
                   gib(t->measured ? t->measured : t->plan.peak), t->outcome == TIER_DONE ? "" : ", planned");
        else
            printf("  %-28s at none of these sizes\n", rows[i].what);
    }
}

static void print_batches(const tier_test *test, const tier_trial *trials, int count)
{
    printf("\nBATCH BOUNDARY (the memory alone, without the tier's limits)\n");
    for (int s = 0; s < test->size_count; s++)
        for (int lm = 0; lm < 2; lm++) {
            const char *size = test->sizes[s];
            int largest = largest_batch(trials, count, size, lm), limit = configured_batch(trials, count, size, lm);
            printf("  %4s GB %-26s largest %d, limit %d: %s\n", size,
                   lm ? "with the language model" : "without language model", largest, limit,
                   largest == 0      ? "not possible here"
                   : largest > limit ? "the limit could be raised"
                   : largest < limit ? "the limit is too high for this song"
                                     : "as it should be");
        }
}

void tier_print(const tier_test *test, const tier_trial *trials, int count)
{
    print_trials(trials, count);
    print_rows(trials, count);
    if (test->boundary) print_boundaries(trials, count);
    if (test->batch_boundary) print_batches(test, trials, count);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static void text(FILE *file, const char *value)
{
    putc('"', file);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(file, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(file, "\\u%04x", *p);
        else
            putc(*p, file);
    }
    putc('"', file);
}

static void text_or_null(FILE *file, const char *key, const char *value)
{
    fprintf(file, ",\"%s\":", key);
    if (value[0])
        text(file, value);
    else
        fprintf(file, "null");
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

/* The fields of the official program's records come first, under its names. */
static void write_record(FILE *file, const tier_trial *t)
{
    static const char *const outcomes[] = {"untried", "refused", "planned", "failed", "done"};
    const ace_memory_plan *p = &t->plan;
    bool ran = t->outcome == TIER_DONE || t->outcome == TIER_FAILED;
    fprintf(file, "{\"tier_gb\":%g", t->gib);
    text_or_null(file, "tier", t->tier);
    text_or_null(file, "test_variant", tier_variant_name(t->variant));
    fprintf(file, ",\"use_lm\":%s", truth(t->with_lm));
    text_or_null(file, "lm_model", t->lm);
    text_or_null(file, "lm_backend", t->with_lm ? "native" : "");
    fprintf(file,
            ",\"offload\":%s,\"offload_dit\":%s,\"duration\":%.3f,\"batch_size\":%d,"
            "\"init_success\":%s,\"gen_success\":%s,\"wall_time\":%.3f",
            truth(p->evicts), truth(p->streams_dit), seconds_of(t), songs_of(t), truth(t->opened),
            ran ? truth(t->outcome == TIER_DONE) : "null", t->seconds);
    text_or_null(file, "quantization", strcmp(t->quantization, "none") == 0 ? "" : t->quantization);
    text_or_null(file, "error", t->error);
    fprintf(file, ",\"peak_vram_gb\":%.4f,\"lm_time\":%.3f,\"dit_time\":%.3f,\"vae_time\":%.3f", gib(t->measured),
            t->lm_seconds, t->dit, t->vae);
    fprintf(file, ",\"lm_layers\":%d,\"lm_layers_streamed\":%d", p->planner_layers, p->planner_streamed);
    fprintf(file, ",\"outcome\":\"%s\",\"load_time\":%.3f,\"condition_time\":%.3f,\"estimated_time\":%.3f",
            outcomes[t->outcome], t->load, t->condition, t->estimate);
    fprintf(file,
            ",\"limit_bytes\":%zu,\"planned_peak_bytes\":%zu,\"measured_peak_bytes\":%zu,\"resident_peak_bytes\":%zu,"
            "\"least_bytes\":%zu,\"offload_text_encoder\":%s,\"songs_in_turns\":%s,\"vae_window\":%d,"
            "\"tier_max_batch\":%d",
            p->limit, p->peak, t->measured, p->fastest, p->least, truth(p->streams_text), truth(p->one_by_one),
            p->vae_window, t->limit_batch);
    text_or_null(file, "model", t->checkpoint);
    text_or_null(file, "precision", t->precision);
    text_or_null(file, "device", t->device);
    text_or_null(file, "note", t->note);
    putc('}', file);
}

static void write_analysis(FILE *file, const tier_test *test, const tier_trial *trials, int count)
{
    const tier_trial *quant = smallest(trials, count, TIER_NO_QUANT);
    const tier_trial *offload = smallest(trials, count, TIER_NO_OFFLOAD);
    fprintf(file, ",\"analysis\":{");
    if (test->boundary) {
        fprintf(file, "\"no_quant_from_gb\":");
        if (quant) fprintf(file, "%g", quant->gib);
        fprintf(file, "%s,\"no_offload_from_gb\":", quant ? "" : "null");
        if (offload) fprintf(file, "%g", offload->gib);
        fprintf(file, "%s%s", offload ? "" : "null", test->batch_boundary ? "," : "");
    }
    if (test->batch_boundary) fprintf(file, "\"batches\":[");
    for (int s = 0; s < test->size_count && test->batch_boundary; s++)
        for (int lm = 0; lm < 2; lm++)
            fprintf(file, "%s{\"tier_gb\":%s,\"use_lm\":%s,\"largest\":%d,\"configured\":%d}", s || lm ? "," : "",
                    test->sizes[s], truth(lm), largest_batch(trials, count, test->sizes[s], lm),
                    configured_batch(trials, count, test->sizes[s], lm));
    fprintf(file, "%s}", test->batch_boundary ? "]" : "");
}

bool tier_write_json(FILE *file, const tier_test *test, const tier_trial *trials, int count, bool complete)
{
    fprintf(file, "{\"version\":\"%s\",\"complete\":%s,\"plan_only\":%s,\"random_weights\":%s,\"records\":[",
            ace_version(), truth(complete), truth(test->plan_only), truth(test->synthetic != NULL));
    for (int i = 0; i < count; i++) {
        if (i) fprintf(file, ",\n");
        write_record(file, &trials[i]);
    }
    putc(']', file);
    write_analysis(file, test, trials, count);
    fprintf(file, "}\n");
    return ferror(file) == 0;
}
