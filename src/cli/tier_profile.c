/* tier_profile.c - the tier profile 'measured': of every tier what plans prove for its smallest card, with the 2B and
 * the XL model alike. */
#include "tier_trial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const double GIB = 1073741824.0;
static const char *const models[] = {"2b", "xl"}, *const planners[] = {NULL, "0.6B", "1.7B", "4B"};
static const int durations[] = {600, 480, 360, 240, 180, 120, 60, 30};

enum { MODELS = 2, PLANNERS = 4, DURATIONS = sizeof durations / sizeof *durations, LARGEST_BATCH = 8 };

/* A card smaller than this belongs to the first tier, but no promise is made for it: the plan tells what fits. */
static const double SMALLEST = 2;

/* The longest song, and the most of that length at once; 0: none. */
typedef struct proof {
    int duration, batch;
} proof;

/* ---- saving ---------------------------------------------------------------------------------------------------- */

static bool cannot(ace_error *error, const char *path, const char *why)
{
    error->status = ACE_ERROR_IO;
    snprintf(error->message, sizeof error->message, "cannot write '%.400s': %s", path, why);
    return false;
}

bool tier_may_save(const char *path, bool replace, ace_error *error)
{
    struct stat info;
    if (!*path) return cli_misused(error, "a file needs a name");
    if (stat(path, &info) != 0) return true;
    if (S_ISDIR(info.st_mode)) return cannot(error, path, "it is a directory");
    return replace || cannot(error, path, "it exists already; --force overwrites it");
}

bool tier_save(const char *path, bool replace, const char *text, size_t n, ace_error *error)
{
    char partial[4200];
    if (strlen(path) > 4096) return cannot(error, path, "the name is too long");
    snprintf(partial, sizeof partial, "%s.%ld.partial", path, (long)getpid());
    FILE *file = fopen(partial, "wbxe");
    if (!file) return cannot(error, path, strerror(errno));
    bool ok = fwrite(text, 1, n, file) == n && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int cause = errno;
    if (fclose(file) != 0 && ok) {
        ok = false;
        cause = errno;
    }
    /* a link, unlike a new name, never takes the place of a file */
    if (ok && (replace ? rename(partial, path) : link(partial, path)) != 0) {
        ok = false;
        cause = errno;
    }
    if (!ok || !replace) unlink(partial);
    return ok || cannot(error, path, cause == EEXIST ? "it exists already; --force overwrites it" : strerror(cause));
}

/* ---- proving --------------------------------------------------------------------------------------------------- */

/* Whether such songs have a plan within the engine's memory. */
static bool fits(ace_engine *engine, int duration, int batch, bool with_lm)
{
    char seconds[16], songs[16];
    ace_memory_plan plan;
    ace_error error = {0};
    snprintf(seconds, sizeof seconds, "%d", duration);
    snprintf(songs, sizeof songs, "%d", batch);
    ace_request *request = ace_request_new(&error);
    bool ok = request && ace_request_set(request, "caption", "a song", &error) &&
              ace_request_set(request, "lyrics", "[Verse]\nla la la\n", &error) &&
              ace_request_set(request, "duration", seconds, &error) &&
              ace_request_set(request, "batch_size", songs, &error) &&
              ace_request_set(request, "thinking", with_lm ? "true" : "false", &error) &&
              ace_plan_memory(engine, request, &plan, &error);
    ace_request_free(request);
    return ok && plan.duration >= duration && plan.batch == batch;
}

static void silence(void *user, const char *sentence)
{
    (void)user, (void)sentence;
}

/* Of one model with one planner within `gib`: the longest song first, then the most of them. */
static bool prove(const tier_test *test, const char *model, const char *planner, double gib, proof *p, ace_error *error)
{
    char variant[32];
    snprintf(variant, sizeof variant, "%s%s%s", model, planner ? "+" : "", planner ? planner : "");
    ace_engine_options options = test->engine;
    options.synthetic = variant;
    options.lm = planner ? NULL : "none";
    options.memory_limit = (size_t)(gib * GIB);
    options.warning = silence;
    ace_engine *engine = ace_engine_open(&options, error);
    if (!engine) return false;
    *p = (proof){0};
    for (int d = 0; d < DURATIONS && p->duration == 0; d++)
        if (fits(engine, durations[d], 1, planner != NULL)) p->duration = durations[d];
    for (int batch = LARGEST_BATCH; batch >= 1 && p->duration > 0 && p->batch == 0; batch--)
        if (fits(engine, p->duration, batch, planner != NULL)) p->batch = batch;
    ace_engine_close(engine);
    return true;
}

/* What holds with either model. */
static bool prove_models(const tier_test *test, const char *planner, double gib, proof *both, ace_error *error)
{
    proof p;
    for (int m = 0; m < MODELS; m++) {
        if (!prove(test, models[m], planner, gib, &p, error)) return false;
        if (m == 0 || p.duration < both->duration) both->duration = p.duration;
        if (m == 0 || p.batch < both->batch) both->batch = p.batch;
        printf("%-10s %6.2f GiB  %-2s  %-5s %5d s x %d\n", "", gib, models[m], planner ? planner : "-", p.duration,
               p.batch);
    }
    return true;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* Language models are offered that allow the longest song and the largest batch which the smallest of them allows. */
static void write_tier(FILE *out, const ace_tier *tier, const proof proofs[PLANNERS], bool last)
{
    const proof *alone = &proofs[0], *with = &proofs[1];
    proof limit = {with->duration < alone->duration ? with->duration : alone->duration,
                   with->batch < alone->batch ? with->batch : alone->batch};
    const char *recommended = tier->lm_model;
    int offered = 0;
    fprintf(out, "        \"%s\": {\n          \"lm_models\": [", tier->id);
    for (int i = 1; i < PLANNERS && with->duration > 0; i++) {
        if (proofs[i].duration < limit.duration || proofs[i].batch < limit.batch) continue;
        fprintf(out, "%s\"%s\"", offered++ ? ", " : "", planners[i]);
        if (!recommended) recommended = planners[i];
    }
    fprintf(out, "], \"lm_share_gib\": null,");
    if (offered && recommended) fprintf(out, " \"lm_model\": \"%s\",", recommended);
    if (!offered) {
        fprintf(out, " \"lm_model\": null, \"init_lm\": false,");
        limit = *alone; /* holds for overrides only */
    }
    fprintf(out,
            "\n          \"max_duration_with_lm\": %d, \"max_duration_without_lm\": %d,"
            "\n          \"max_batch_with_lm\": %d, \"max_batch_without_lm\": %d\n        }%s\n",
            limit.duration, alone->duration, limit.batch, alone->batch, last ? "" : ",");
}

static bool write_tiers(const tier_test *test, const ace_machine *machine, FILE *out, ace_error *error)
{
    ace_tier tier, next;
    for (int i = 0; ace_machine_tier_at(machine, i, &tier); i++) {
        proof proofs[PLANNERS] = {{0}};
        double size = tier.smallest > SMALLEST ? tier.smallest : SMALLEST;
        printf("%s, from %.2f GiB\n", tier.id, size);
        for (int p = 0; p < PLANNERS; p++)
            if (!prove_models(test, planners[p], size, &proofs[p], error)) return false;
        if (proofs[0].duration == 0) {
            error->status = ACE_ERROR_MEMORY;
            snprintf(error->message, sizeof error->message, "%s: no song has a plan within %.2f GiB", tier.id, size);
            return false;
        }
        write_tier(out, &tier, proofs, !ace_machine_tier_at(machine, i + 1, &next));
    }
    return true;
}

int tier_write_profile(const tier_test *test)
{
    ace_error error = {0};
    char *text = NULL;
    size_t n = 0;
    if (!tier_may_save(test->profile_file, test->replace, &error)) return cli_fail(&error, false);
    /* boundaries and recommendations are those of the promised table */
    ace_machine_options options = {.profile = "seed", .warning = silence};
    ace_machine *machine = ace_machine_open(&options, &error);
    FILE *out = machine ? open_memstream(&text, &n) : NULL;
    bool ok = out != NULL;
    if (machine && !out) {
        error.status = ACE_ERROR_MEMORY;
        snprintf(error.message, sizeof error.message, "no memory for the profile");
    }
    if (ok) {
        fprintf(out, "{\n  \"profiles\": {\n    \"measured\": {\n      \"measured\": true,\n      \"tiers\": {\n");
        ok = write_tiers(test, machine, out, &error);
        fprintf(out, "      }\n    }\n  }\n}\n");
        ok = fclose(out) == 0 && ok;
    }
    ok = ok && tier_save(test->profile_file, test->replace, text, n, &error);
    free(text);
    ace_machine_close(machine);
    if (!ok) return cli_fail(&error, false);
    printf("%s\n", test->profile_file);
    return fflush(stdout) == 0 ? 0 : ACE_ERROR_IO;
}
