#include "song/planning.h"

#include "base/error.h"
#include "base/memory.h"
#include "lm/lm_parse.h"
#include "lm/lm_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tokens that the plan's text may take: a caption of 512, and all other fields at their longest. The official profile
 * has no such bound but the reference's own (lm.md 4.9). */
enum { PLAN_TOKENS = 1024, PLAN_TOKENS_OFFICIAL = 3500 };

/* Tokens that it usually takes, of which only estimates of time know. */
enum { USUAL_PLAN_TOKENS = 160 };

/* ---- wishes ---------------------------------------------------------------------------------------------------- */

static bool has_codes(const ace_request *r)
{
    return *request_text(r, FIELD_AUDIO_CODES, "") != '\0';
}

lm_profile planning_profile(const ace_request *r)
{
    bool official = strcmp(request_text(r, FIELD_LM_PROFILE, "default"), "official") == 0;
    return official ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT;
}

lm_sampling planning_sampling(const ace_request *r, bool codes)
{
    lm_sampling preset = lm_sampling_default();
    return (lm_sampling){.temperature = (float)request_number(r, FIELD_LM_TEMPERATURE, (double)preset.temperature),
                         .top_k = (int)request_integer(r, FIELD_LM_TOP_K, preset.top_k),
                         .top_p = (float)request_number(r, FIELD_LM_TOP_P, codes ? (double)preset.top_p : 1),
                         .repetition_penalty =
                             (float)request_number(r, FIELD_LM_PENALTY, (double)preset.repetition_penalty),
                         .guidance = codes ? (float)request_number(r, FIELD_LM_CFG_SCALE, (double)preset.guidance) : 1};
}

lm_request planning_request(const ace_request *r)
{
    bool instrumental = request_bool(r, FIELD_INSTRUMENTAL, false);
    return (lm_request){.caption = request_text(r, FIELD_CAPTION, ""),
                        .lyrics = instrumental ? "[Instrumental]" : request_text(r, FIELD_LYRICS, ""),
                        .language = request_text(r, FIELD_LANGUAGE, ""),
                        .keyscale = request_text(r, FIELD_KEYSCALE, ""),
                        .timesignature = request_text(r, FIELD_TIMESIGNATURE, ""),
                        .bpm = (double)request_integer(r, FIELD_BPM, 0),
                        .duration = request_number(r, FIELD_DURATION, 0)};
}

/* Whether the request itself gives all that could be planned for it. */
static bool is_complete(const ace_request *r)
{
    lm_request given = planning_request(r);
    return given.bpm > 0 && given.duration > 0 && *given.keyscale && *given.timesignature;
}

bool planning_wishes(const ace_request *r, bool available, const ace_error *problem, planning_wish *wish,
                     ace_error *error)
{
    bool thinking = request_bool(r, FIELD_THINKING, available) && !has_codes(r);
    *wish = (planning_wish){0};
    if (!available) {
        if (!thinking) return true;
        *error = *problem;
        return false;
    }
    wish->codes = thinking;
    wish->metadata = request_bool(r, FIELD_COT_METAS, true) && !is_complete(r);
    wish->caption = wish->metadata && request_bool(r, FIELD_COT_CAPTION, true);
    wish->language = wish->metadata && request_bool(r, FIELD_COT_LANGUAGE, true);
    return true;
}

/* ---- a request with the planner's words in it ------------------------------------------------------------------ */

void song_plan_free(song_plan *plan)
{
    ace_request_free(plan->request);
    for (int i = 0; i < plan->count; i++) free(plan->lists[i].codes);
    *plan = (song_plan){0};
}

void planning_done(ace_request *r)
{
    static const request_field switches[] = {FIELD_THINKING, FIELD_COT_METAS, FIELD_COT_CAPTION, FIELD_COT_LANGUAGE};
    static const request_field settings[] = {FIELD_LM_TEMPERATURE, FIELD_LM_CFG_SCALE, FIELD_LM_TOP_K,  FIELD_LM_TOP_P,
                                             FIELD_LM_PENALTY,     FIELD_LM_NEGATIVE,  FIELD_LM_PROFILE};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) request_put_bool(r, switches[i], false);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) request_clear(r, settings[i]);
}

/* A value of the planner's goes through the checks that a user's goes through; characters that no model has learned to
 * read are left out of it. */
static bool put_checked(ace_request *r, request_field field, const char *value, const job_warnings *warnings,
                        ace_error *error)
{
    size_t removed;
    const char *name = request_fields[field].doc.name;
    ace_error refused = {0};
    if (!*value) return true;
    char *clean = lm_without_controls(value, &removed, error);
    if (!clean) return false;
    bool ok = ace_request_set(r, name, clean, &refused);
    if (!ok && refused.status == ACE_ERROR_USAGE) {
        char sentence[256];
        snprintf(sentence, sizeof sentence, "the planner's %s '%.80s' cannot be used and is left out", name, clean);
        if (warnings->warn) warnings->warn(warnings->user, sentence);
        ok = true;
    }
    if (!ok) *error = refused;
    free(clean);
    return ok;
}

bool planning_put_song(ace_request *r, const lm_song *song, const job_warnings *warnings, ace_error *error)
{
    char bpm[32] = "", duration[32] = "";
    if (song->bpm > 0) snprintf(bpm, sizeof bpm, "%lld", (long long)song->bpm);
    if (song->duration > 0) snprintf(duration, sizeof duration, "%.17g", song->duration);
    return put_checked(r, FIELD_CAPTION, song->caption, warnings, error) &&
           put_checked(r, FIELD_LYRICS, song->lyrics, warnings, error) &&
           put_checked(r, FIELD_LANGUAGE, song->language, warnings, error) &&
           put_checked(r, FIELD_BPM, bpm, warnings, error) &&
           put_checked(r, FIELD_KEYSCALE, song->keyscale, warnings, error) &&
           put_checked(r, FIELD_TIMESIGNATURE, song->timesignature, warnings, error) &&
           put_checked(r, FIELD_DURATION, duration, warnings, error);
}

bool planning_put_codes(ace_request *r, const song_codes *list, ace_error *error)
{
    ace_text text = {0};
    lm_write_codes(&text, list->codes, (size_t)list->count);
    char *codes = ace_text_take(&text, error);
    bool ok = codes && request_put_text(r, FIELD_AUDIO_CODES, codes, error);
    free(codes);
    return ok;
}

/* ---- what is asked --------------------------------------------------------------------------------------------- */

/* The state of one planning. */
typedef struct planning {
    planner *p;
    const ace_request *request;
    const planning_wish *wish;
    lm_profile profile;
    lm_request given;
    lm_metadata own;     /* the user's metadata */
    lm_metadata planned; /* theirs and the planner's */
} planning;

static bool open_planning(planning *g, planner *p, const ace_request *request, const planning_wish *wish,
                          ace_error *error)
{
    *g = (planning){.p = p,
                    .request = request,
                    .wish = wish,
                    .profile = planning_profile(request),
                    .given = planning_request(request)};
    return lm_metadata_for_generation(&g->given, &g->own, error);
}

static void close_planning(planning *g)
{
    lm_metadata_free(&g->own);
    lm_metadata_free(&g->planned);
}

static int64_t text_tokens(const planning *g)
{
    return g->profile == LM_PROFILE_OFFICIAL ? PLAN_TOKENS_OFFICIAL : PLAN_TOKENS;
}

/* The ids of a prompt, which is freed. */
static bool encode(const planning *g, char *prompt, int64_t answer, ace_ids *ids, ace_error *error)
{
    bool ok = prompt && planner_encode(g->p, prompt, answer, ids, error);
    free(prompt);
    return ok;
}

static bool encode_negative(const planning *g, ace_ids *ids, ace_error *error)
{
    const char *text = request_text(g->request, FIELD_LM_NEGATIVE, "");
    return encode(g, lm_prompt_codes_unconditional(text, error), 0, ids, error);
}

static planner_task codes_task(const planning *g, const ace_ids *prompt, const ace_ids *negative, double duration)
{
    return (planner_task){.profile = g->profile,
                          .rules = {.phase = LM_PHASE_CODES, .duration = duration},
                          .prompt = prompt,
                          .negative = negative,
                          .sampling = planning_sampling(g->request, true),
                          .at_once = g->wish->at_once};
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Tokens of the prompt for the codes: that of the plan, and the plan, which is the user's own or the planner's. */
static bool codes_prompt(const planning *g, int64_t prompt, int64_t *tokens, ace_error *error)
{
    ace_ids ids = {0};
    *tokens = prompt + text_tokens(g);
    if (g->wish->metadata) return true;
    bool ok = encode(g, lm_prompt_codes(g->given.caption, g->given.lyrics, &g->own, error), 0, &ids, error);
    *tokens = (int64_t)ids.count;
    ace_ids_free(&ids);
    return ok;
}

/* Room for the codes. */
static bool add_codes_room(const planning *g, int64_t prompt, lm_session_limits *limits, ace_error *error)
{
    double duration = g->given.duration > 0 ? g->given.duration : planner_max_duration(g->p);
    planner_task task = codes_task(g, NULL, NULL, duration);
    int64_t codes = 0, with_plan = 0;
    ace_ids negative = {0};
    int songs = (int)request_integer(g->request, FIELD_BATCH_SIZE, 1), at_once = g->wish->at_once;
    limits->items = at_once > 0 && at_once < songs ? at_once : songs;
    limits->guided = task.sampling.guidance > 1;
    bool ok = codes_prompt(g, prompt, &with_plan, error) && planner_code_budget(g->p, &task, &codes, error) &&
              (!limits->guided || encode_negative(g, &negative, error));
    if (ok) {
        int64_t unconditional = (int64_t)negative.count;
        limits->rows = larger(limits->rows, lm_rows_needed(limits->items, with_plan, unconditional, codes));
        limits->positions = larger(limits->positions, larger(with_plan, unconditional) + codes);
    }
    ace_ids_free(&negative);
    return ok;
}

static bool limits_of(const planning *g, lm_session_limits *limits, ace_error *error)
{
    ace_ids prompt = {0};
    *limits = (lm_session_limits){.items = 1};
    bool ok = encode(g, lm_prompt_plan(g->given.caption, g->given.lyrics, error), text_tokens(g), &prompt, error);
    if (ok && g->wish->metadata) limits->rows = limits->positions = (int64_t)prompt.count + text_tokens(g);
    ok = ok && (!g->wish->codes || add_codes_room(g, (int64_t)prompt.count, limits, error));
    ace_ids_free(&prompt);
    return ok;
}

bool planning_limits(planner *p, const ace_request *request, const planning_wish *wish, lm_session_limits *limits,
                     ace_error *error)
{
    planning g;
    bool ok = open_planning(&g, p, request, wish, error) && limits_of(&g, limits, error);
    close_planning(&g);
    return ok;
}

/* The work of writing the plan's text, of reading it again for the codes, and of the codes. */
static bool count_work(const planning *g, const planner_setup *setup, double duration, ace_stage_cost *cost,
                       ace_error *error)
{
    ace_ids prompt = {0};
    bool ok = encode(g, lm_prompt_plan(g->given.caption, g->given.lyrics, error), text_tokens(g), &prompt, error);
    int64_t length = (int64_t)prompt.count;
    ace_ids_free(&prompt);
    planner_work text = {.items = 1, .prompt = length, .tokens = USUAL_PLAN_TOKENS};
    planner_work codes = {.items = (int)request_integer(g->request, FIELD_BATCH_SIZE, 1),
                          .guided = planning_sampling(g->request, true).guidance > 1,
                          .prompt = length + USUAL_PLAN_TOKENS,
                          .tokens = (int64_t)(duration * LM_CODES_PER_SECOND)};
    int groups = 1;
    if (g->wish->at_once > 0 && g->wish->at_once < codes.items) {
        groups = (codes.items + g->wish->at_once - 1) / g->wish->at_once;
        codes.items = g->wish->at_once;
    }
    ace_stage_cost group = {0};
    if (ok && g->wish->metadata) ok = planner_count_work(g->p, setup, &text, cost, error);
    if (ok && g->wish->codes) ok = planner_count_work(g->p, setup, &codes, &group, error);
    cost->flops += groups * group.flops;
    cost->bytes_moved += groups * group.bytes_moved;
    cost->bytes_loaded += groups * group.bytes_loaded;
    return ok;
}

bool planning_count_work(planner *p, const ace_request *request, const planning_wish *wish, const planner_setup *setup,
                         double duration, ace_stage_cost *cost, ace_error *error)
{
    planning g;
    bool ok = open_planning(&g, p, request, wish, error) && count_work(&g, setup, duration, cost, error);
    close_planning(&g);
    return ok;
}

/* ---- the two phases -------------------------------------------------------------------------------------------- */

/* Phase 1: the metadata. */
static bool plan_metadata(planning *g, ace_error *error)
{
    if (!g->wish->metadata) return lm_metadata_copy(&g->planned, &g->own, error);
    ace_ids prompt = {0};
    planner_task task = {.profile = g->profile,
                         .rules = {.phase = LM_PHASE_COT,
                                   .stop_at_reasoning = true,
                                   .skip_caption = !g->wish->caption,
                                   .skip_language = !g->wish->language,
                                   .skip_genres = true,
                                   .given = &g->own},
                         .prompt = &prompt,
                         .sampling = planning_sampling(g->request, true),
                         .max_tokens = text_tokens(g)};
    task.sampling.guidance = 1;
    char *text = NULL;
    if (encode(g, lm_prompt_plan(g->given.caption, g->given.lyrics, error), task.max_tokens, &prompt, error))
        text = planner_write_text(g->p, &task, (uint64_t)request_integer(g->request, FIELD_SEED, 0), error);
    bool ok = text && lm_parse_metadata(g->profile, text, strlen(text), &g->own, &g->planned, error);
    free(text);
    ace_ids_free(&prompt);
    return ok;
}

/* A plan written anew may have more tokens than the planner wrote: YAML puts quotes and escapes in. That takes no more
 * memory than was planned. */
static bool make_room(const planning *g, const lm_session_limits *planned, int64_t prompt, int64_t codes,
                      ace_error *error)
{
    lm_session_limits limits = *planned;
    int64_t more = prompt + codes - limits.positions;
    if (more <= 0) return true;
    limits.positions += more;
    limits.rows += limits.items * more;
    return planner_rearrange(g->p, &limits, error);
}

/* Phase 2: the codes. */
static bool plan_codes(const planning *g, const lm_session_limits *limits, song_plan *plan, ace_error *error)
{
    uint64_t seeds[JOB_MAX_BATCH], first = (uint64_t)request_integer(g->request, FIELD_SEED, 0);
    int songs = (int)request_integer(g->request, FIELD_BATCH_SIZE, 1);
    for (int i = 0; i < songs; i++) seeds[i] = first + (uint64_t)i;
    ace_ids prompt = {0}, negative = {0};
    double duration = lm_target_duration(g->given.duration, &g->planned);
    planner_task task = codes_task(g, &prompt, &negative, duration);
    int64_t codes = 0;
    bool ok =
        planner_code_budget(g->p, &task, &codes, error) &&
        encode(g, lm_prompt_codes(g->given.caption, g->given.lyrics, &g->planned, error), codes, &prompt, error) &&
        (task.sampling.guidance <= 1 || encode_negative(g, &negative, error)) &&
        make_room(g, limits, (int64_t)prompt.count, codes, error) &&
        planner_write_codes(g->p, &task, seeds, songs, plan->lists, error);
    if (ok) plan->count = songs;
    ace_ids_free(&prompt);
    ace_ids_free(&negative);
    return ok;
}

static bool has_every_song_codes(const song_plan *plan, ace_error *error)
{
    for (int i = 0; i < plan->count; i++)
        if (plan->lists[i].count == 0)
            return ace_fail(error, ACE_ERROR_MODEL,
                            "the planner wrote no audio codes for song %d: give a duration or another seed", i + 1);
    return true;
}

/* The request with what was planned. A length that only the codes tell is theirs. */
static bool merge(const planning *g, const job_warnings *warnings, song_plan *plan, ace_error *error)
{
    lm_song song = {0};
    plan->request = request_copy(g->request, error);
    bool ok = plan->request &&
              lm_song_merge(g->profile, &g->given, &g->planned, g->wish->caption, g->wish->language, &song, error);
    if (ok && request_bool(g->request, FIELD_INSTRUMENTAL, false)) song.lyrics[0] = '\0';
    ok = ok && planning_put_song(plan->request, &song, warnings, error);
    if (ok) planning_done(plan->request);
    lm_song_free(&song);
    return ok;
}

bool planning_run(planner *p, const ace_request *request, const planning_wish *wish, const planner_setup *setup,
                  const job_warnings *warnings, const planner_watch *watch, ace_stage_cost costs[ACE_STAGE_COUNT],
                  song_plan *plan, ace_error *error)
{
    planning g;
    *plan = (song_plan){0};
    bool ok = open_planning(&g, p, request, wish, error) && planner_begin(p, setup, watch, error);
    if (ok) {
        ok = plan_metadata(&g, error) && (!wish->codes || plan_codes(&g, &setup->limits, plan, error));
        planner_end(p, costs);
    }
    ok = ok && has_every_song_codes(plan, error) && merge(&g, warnings, plan, error);
    close_planning(&g);
    if (!ok) song_plan_free(plan);
    return ok;
}
