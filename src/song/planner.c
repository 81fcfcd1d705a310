#include "song/planner.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "lm/lm_grammar_constraint.h"
#include "lm/lm_prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The first audio code of a planner without a tokenizer, and of the official ones (lm.md 2.6). */
enum { FIRST_CODE = 151669 };

/* Tokens computed at once where memory is shorter than it was planned to be. */
enum { SHORT_PASS = 64 };

/* Sessions whose size is remembered: those of songs taking turns by eight, four, two and one. */
enum { SESSIONS = 8 };

struct planner {
    ace_device *dev;
    const ace_checkpoint *checkpoint;
    planner_options options;
    ace_tokenizer *tokenizer;
    lm_grammar *grammars[2]; /* of each profile, made when first used */
    bool loaded;             /* as `setup` says */
    size_t weight_bytes;     /* 0 unless loaded */
    planner_setup setup;
    qwen3_lm model;

    /* what the meter has said, which is asked again and again while a setup is looked for */
    struct {
        size_t weights, passing;        /* weights 0: not asked yet */
    } stored[CONFIG_MAX_LAYERS + 1][2]; /* with so many layers streamed; with rows fetched */
    struct {
        lm_session_limits limits; /* rows 0: not asked yet */
        size_t scratch, host;
    } sessions[SESSIONS];
    int next_session;

    /* a run */
    lm_session *session;
    const planner_watch *watch;
    ace_stage_cost load, plan;
    double started;
    ace_device_stats before;
};

/* ---- life ------------------------------------------------------------------------------------------------------ */

planner *planner_open(const ace_checkpoint *checkpoint, ace_device *dev, const planner_options *options,
                      ace_error *error)
{
    if (!checkpoint_need_lm(checkpoint, error)) return NULL;
    planner *p = ace_calloc(1, sizeof *p, "the planner", error);
    if (!p) return NULL;
    p->dev = dev;
    p->checkpoint = checkpoint;
    p->options = *options;
    p->tokenizer = checkpoint->synthetic ? NULL : checkpoint_lm_tokenizer(checkpoint, error);
    if (p->tokenizer || checkpoint->synthetic) return p;
    planner_close(p);
    return NULL;
}

void planner_unload(planner *p)
{
    if (!p) return;
    if (p->loaded) qwen3_lm_free(&p->model);
    p->loaded = false;
    p->weight_bytes = 0;
}

void planner_close(planner *p)
{
    if (!p) return;
    planner_unload(p);
    for (int i = 0; i < 2; i++) lm_grammar_free(p->grammars[i]);
    tokenizer_close(p->tokenizer);
    free(p);
}

int planner_max_duration(const planner *p)
{
    return p->options.max_duration;
}

size_t planner_weight_bytes(const planner *p)
{
    return p ? p->weight_bytes : 0;
}

bool planner_encode(const planner *p, const char *prompt, int64_t answer, ace_ids *ids, ace_error *error)
{
    if (!p->tokenizer) {
        for (const char *byte = prompt; *byte && (int64_t)ids->count + answer < PLANNER_CONTEXT; byte++)
            if (!ace_ids_append(ids, (unsigned char)*byte, error)) return false;
        return true;
    }
    return lm_prompt_encode(p->tokenizer, prompt, (size_t)answer, PLANNER_CONTEXT, ids, error);
}

static const lm_grammar *grammar_of(planner *p, lm_profile profile, ace_error *error)
{
    lm_grammar **grammar = &p->grammars[profile == LM_PROFILE_OFFICIAL];
    lm_grammar_options options = {
        .profile = profile, .max_duration = p->options.max_duration, .genres_path = p->options.genres_path};
    if (!*grammar) *grammar = lm_grammar_new(p->tokenizer, &options, error);
    return *grammar;
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static size_t cache_bytes(const planner *p, const lm_session_limits *limits)
{
    const transformer_config *shape = &p->checkpoint->lm.stack;
    return (size_t)(limits->rows * shape->layers * 2 * transformer_kv_width(shape)) *
           ace_dtype_block_bytes(ace_device_act(p->dev));
}

int planner_layers(const planner *p)
{
    return p->checkpoint->lm.stack.layers;
}

static int32_t first_code(const planner *p)
{
    return p->tokenizer ? tokenizer_audio_first(p->tokenizer) : FIRST_CODE;
}

/* Ids of audio codes: no more than the vocabulary has. */
static int32_t code_count(const planner *p)
{
    int32_t most = p->checkpoint->lm.vocab_size - first_code(p);
    return most < LM_CODES ? most : LM_CODES;
}

static void load_weights(const planner *p, const planner_setup *setup, ace_device *dev, qwen3_lm *model)
{
    qwen3_lm_storage storage = {.layers = {.streamed = setup->streamed > 0,
                                           .resident = planner_layers(p) - setup->streamed,
                                           .form = p->options.form}};
    if (setup->fetches) {
        storage.first_row = first_code(p);
        storage.rows = code_count(p);
    }
    qwen3_lm_load(model, dev, p->checkpoint->parts[ACE_PART_LM], &p->checkpoint->lm, &storage);
}

/* A planner on the meter, with a session. */
typedef struct metered {
    ace_device *meter;
    qwen3_lm *model;
    lm_session *session;
} metered;

static void close_metered(metered *m)
{
    lm_session_close(m->session);
    if (m->model) qwen3_lm_free(m->model);
    free(m->model);
    ace_device_close(m->meter);
}

/* close_metered() is due in any case. */
static bool open_metered(metered *m, const planner *p, const planner_setup *setup, ace_error *error)
{
    *m = (metered){.meter = ace_meter_open(p->dev, error)};
    m->model = m->meter ? ace_calloc(1, sizeof *m->model, "the plan of the planner", error) : NULL;
    if (!m->model) return false;
    load_weights(p, setup, m->meter, m->model);
    m->session = ace_device_ok(m->meter, error) ? lm_session_open(m->model, &setup->limits, error) : NULL;
    return m->session != NULL;
}

static bool same_limits(const lm_session_limits *a, const lm_session_limits *b)
{
    return a->items == b->items && a->guided == b->guided && a->rows == b->rows && a->positions == b->positions &&
           a->pass == b->pass;
}

/* Has a code written after one token of text: all that is streamed and fetched comes and goes. */
static bool write_one(const planner *p, lm_session *session, ace_error *error)
{
    int32_t text = 0, token;
    lm_free_text any_code = {{first_code(p), first_code(p) + code_count(p)}, -1, false};
    lm_item item = {
        .prompt = &text, .prompt_count = 1, .constraint = lm_constraint_free_text(&any_code), .tokens = &token};
    lm_write_options options = {.sampling = lm_sampling_default(), .max_tokens = 1};
    options.sampling.guidance = 1;
    return lm_write(session, &item, 1, &options, error);
}

/* The weights of a setup, in a session of the smallest size. */
static bool plan_weights(planner *p, const planner_setup *setup, ace_error *error)
{
    metered m;
    planner_setup small = {.limits = {.items = 1, .rows = 2, .positions = 2, .pass = 2},
                           .streamed = setup->streamed,
                           .fetches = setup->fetches};
    if (p->stored[setup->streamed][setup->fetches].weights > 0) return true;
    bool ok = open_metered(&m, p, &small, error) && write_one(p, m.session, error);
    if (ok) {
        ace_device_stats stats = ace_device_get_stats(m.meter);
        p->stored[setup->streamed][setup->fetches].weights = stats.weight_bytes;
        p->stored[setup->streamed][setup->fetches].passing =
            stats.total_peak - stats.workspace - stats.weight_bytes - stats.scratch_peak;
    }
    close_metered(&m);
    return ok;
}

/* The scratch of a session, which does not depend on how the weights are stored. */
static bool plan_scratch(planner *p, const lm_session_limits *limits, planner_needs *needs, ace_error *error)
{
    metered m;
    planner_setup everything = {.limits = *limits};
    for (int i = 0; i < SESSIONS; i++) {
        needs->scratch = p->sessions[i].scratch;
        needs->host = p->sessions[i].host;
        if (p->sessions[i].limits.rows > 0 && same_limits(&p->sessions[i].limits, limits)) return true;
    }
    bool ok = open_metered(&m, p, &everything, error);
    if (ok) {
        int here = p->next_session;
        ace_device_stats stats = ace_device_get_stats(m.meter);
        needs->scratch = p->sessions[here].scratch = stats.scratch_peak;
        needs->host = p->sessions[here].host = stats.host_peak;
        p->sessions[here].limits = *limits;
        p->next_session = (here + 1) % SESSIONS;
    }
    close_metered(&m);
    return ok;
}

bool planner_plan(planner *p, const planner_setup *setup, planner_needs *needs, ace_error *error)
{
    *needs = (planner_needs){0};
    if (!plan_weights(p, setup, error) || !plan_scratch(p, &setup->limits, needs, error)) return false;
    needs->weights = p->stored[setup->streamed][setup->fetches].weights;
    needs->passing = p->stored[setup->streamed][setup->fetches].passing;
    needs->cache = cache_bytes(p, &setup->limits);
    return true;
}

bool planner_settle(planner *p, size_t most, planner_setup *setup, planner_needs *needs, ace_error *error)
{
    const int all = planner_layers(p);
    int enough = all, too_few = 0;
    const planner_setup ways[] = {{setup->limits, 0, false}, {setup->limits, 0, true}, {setup->limits, all, true}};
    bool fits = false;
    for (size_t i = 0; i < sizeof ways / sizeof *ways && !fits; i++) {
        *setup = ways[i];
        if (!planner_plan(p, setup, needs, error)) return false;
        fits = most == 0 || planner_bytes(needs) <= most;
    }
    if (!fits || setup->streamed == 0) return true;
    while (enough - too_few > 1) {
        setup->streamed = (enough + too_few) / 2;
        if (!planner_plan(p, setup, needs, error)) return false;
        if (planner_bytes(needs) <= most)
            enough = setup->streamed;
        else
            too_few = setup->streamed;
    }
    setup->streamed = enough;
    return planner_plan(p, setup, needs, error);
}

ace_weight_form planner_form_that_fits(const planner *p, const lm_session_limits *limits, size_t most)
{
    planner coarser = *p;
    planner_setup setup = {.limits = *limits};
    planner_needs needs;
    ace_error unread;
    if (p->options.form == ACE_FORM_INT4) return ACE_FORM_PLAIN;
    for (int form = p->options.form == ACE_FORM_INT8 ? ACE_FORM_INT4 : ACE_FORM_INT8; form <= ACE_FORM_INT4; form++) {
        coarser.options.form = (ace_weight_form)form;
        memset(coarser.stored, 0, sizeof coarser.stored); /* what is remembered is of the other form */
        memset(coarser.sessions, 0, sizeof coarser.sessions);
        if (planner_settle(&coarser, most, &setup, &needs, &unread) && planner_bytes(&needs) <= most)
            return (ace_weight_form)form;
    }
    return ACE_FORM_PLAIN;
}

static void report(const planner *p, ace_stage stage, const char *unit, int64_t done, int64_t total, double rate)
{
    if (p->watch->progress) p->watch->progress(p->watch->user, stage, unit, done, total, rate);
}

static void open_books(planner *p)
{
    p->started = ace_clock();
    ace_device_reset_peak(p->dev);
    p->before = ace_device_get_stats(p->dev);
}

static ace_stage_cost close_books(const planner *p)
{
    ace_device_stats after = ace_device_get_stats(p->dev);
    return (ace_stage_cost){.seconds = ace_clock() - p->started,
                            .flops = after.flops - p->before.flops,
                            .bytes_moved = after.bytes_moved - p->before.bytes_moved,
                            .bytes_loaded = after.bytes_loaded - p->before.bytes_loaded,
                            .weight_bytes = after.weight_bytes,
                            .scratch_bytes = after.scratch_peak,
                            .peak_bytes = after.total_peak};
}

/* The memory of a run, and the weights where they are not loaded in this way. */
static bool take_memory(planner *p, const planner_setup *setup, ace_error *error)
{
    planner_needs needs;
    if (p->setup.streamed != setup->streamed || p->setup.fetches != setup->fetches) planner_unload(p);
    if (!planner_plan(p, setup, &needs, error) || !ace_scratch_reserve(p->dev, needs.scratch, needs.host, error))
        return false;
    if (!p->loaded) {
        size_t others = ace_device_get_stats(p->dev).weight_bytes;
        load_weights(p, setup, p->dev, &p->model);
        p->loaded = true;
        p->weight_bytes = ace_device_get_stats(p->dev).weight_bytes - others;
    }
    p->setup = *setup;
    return ace_device_ok(p->dev, error);
}

static bool open_session(planner *p, ace_error *error)
{
    p->session = lm_session_open(&p->model, &p->setup.limits, error);
    return p->session != NULL;
}

bool planner_begin(planner *p, const planner_setup *setup, const planner_watch *watch, ace_error *error)
{
    static const planner_watch nobody;
    p->watch = watch ? watch : &nobody;
    p->load = p->plan = (ace_stage_cost){0};
    open_books(p);
    report(p, ACE_STAGE_LOAD, "parts", 0, 1, 0);
    bool ok = take_memory(p, setup, error);
    if (ok) report(p, ACE_STAGE_LOAD, "parts", 1, 1, 0);
    p->load = close_books(p);
    open_books(p);
    if (ok && open_session(p, error)) return true;
    planner_end(p, NULL);
    return false;
}

bool planner_rearrange(planner *p, const lm_session_limits *limits, ace_error *error)
{
    planner_setup larger = {.limits = *limits};
    planner_needs has, needs;
    if (!planner_plan(p, &p->setup, &has, error) || !planner_settle(p, planner_bytes(&has), &larger, &needs, error))
        return false;
    if (planner_bytes(&needs) > planner_bytes(&has)) {
        larger.limits.pass = SHORT_PASS;
        if (!planner_settle(p, planner_bytes(&has), &larger, &needs, error)) return false;
    }
    if (planner_bytes(&needs) > planner_bytes(&has))
        return ace_fail(error, ACE_ERROR_MEMORY,
                        "what the planner has written needs %zu bytes of memory to go on with, and %zu were planned: "
                        "ask for a shorter song, or try another seed",
                        planner_bytes(&needs), planner_bytes(&has));
    lm_session_close(p->session);
    p->session = NULL;
    return take_memory(p, &larger, error) && open_session(p, error);
}

void planner_end(planner *p, ace_stage_cost costs[ACE_STAGE_COUNT])
{
    if (costs) {
        p->plan = close_books(p);
        costs[ACE_STAGE_LOAD] = p->load;
        costs[ACE_STAGE_PLAN] = p->plan;
    }
    lm_session_close(p->session);
    p->session = NULL;
    /* half-loaded weights are of no use to the next run */
    if (!ace_device_ok(p->dev, NULL)) planner_unload(p);
    ace_scratch_reserve(p->dev, 0, 0, NULL);
    ace_device_clear(p->dev);
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* What on_tokens() needs to know of a call. */
typedef struct token_count {
    const planner *p;
    const char *unit;
    int items;      /* that are being written */
    int64_t budget; /* of one item */
    int64_t before; /* tokens of the items before them */
    int64_t total;  /* of all items, 0 while unknown */
} token_count;

static void on_tokens(void *user, const lm_progress *progress)
{
    const token_count *c = user;
    int64_t done = progress->tokens * c->items;
    report(c->p, ACE_STAGE_PLAN, c->unit, c->before + done, c->total,
           progress->seconds > 0 ? (double)done / progress->seconds : 0);
}

static lm_write_options options_of(const planner_task *task, lm_stream stream, int64_t max_tokens, token_count *count)
{
    lm_write_options options = {.sampling = task->sampling,
                                .stream = stream,
                                .max_tokens = max_tokens,
                                .negative = task->negative ? task->negative->data : NULL,
                                .negative_count = task->negative ? (int64_t)task->negative->count : 0,
                                .progress = on_tokens,
                                .user = count};
    if (task->profile == LM_PROFILE_OFFICIAL) options.sampling.top_p = options.sampling.repetition_penalty = 1;
    return options;
}

char *planner_write_text(planner *p, const planner_task *task, uint64_t seed, ace_error *error)
{
    if (!p->tokenizer) {
        ace_fail(error, ACE_ERROR_MODEL, "a planner of random weights has no tokenizer, so it writes audio codes only");
        return NULL;
    }
    const lm_grammar *grammar = grammar_of(p, task->profile, error);
    lm_grammar_plan *plan = grammar ? lm_grammar_plan_new(grammar, &task->rules, error) : NULL;
    int32_t *tokens = plan ? ace_calloc((size_t)task->max_tokens, sizeof *tokens, "the planner's text", error) : NULL;
    ace_text text = {0};
    bool ok = tokens != NULL;
    if (ok) {
        token_count count = {.p = p, .unit = "tokens", .items = 1};
        lm_grammar_item rules;
        lm_item item = {.prompt = task->prompt->data,
                        .prompt_count = (int64_t)task->prompt->count,
                        .constraint = lm_grammar_constraint(&rules, plan),
                        .seed = seed,
                        .tokens = tokens};
        lm_write_options options = options_of(task, LM_STREAM_TEXT, task->max_tokens, &count);
        ok = lm_write(p->session, &item, 1, &options, error) &&
             tokenizer_decode(p->tokenizer, tokens, (size_t)item.count, &text, error);
    }
    free(tokens);
    lm_grammar_plan_free(plan);
    if (ok) return ace_text_take(&text, error);
    ace_text_free(&text);
    return NULL;
}

/* A length that the planner may choose. */
static double allowed_length(const planner *p, double duration)
{
    return fmin(fmax(duration, LM_MIN_DURATION), p->options.max_duration);
}

/* lm.md 4.9. The default profile writes exactly the codes of the plan; the official one may stop before. A song whose
 * length nobody knows ends at the longest. No `plan`: a planner of random weights, which never stops. */
static int64_t budget_of(const planner *p, const planner_task *task, const lm_grammar_plan *plan)
{
    if (!plan) return (int64_t)(allowed_length(p, task->rules.duration) * LM_CODES_PER_SECOND);
    int64_t wanted = lm_grammar_plan_codes(plan), longest = (int64_t)p->options.max_duration * LM_CODES_PER_SECOND;
    if (wanted < 0) return longest;
    if (task->profile == LM_PROFILE_DEFAULT) return wanted;
    int64_t budget = (int64_t)(allowed_length(p, task->rules.duration) * LM_CODES_PER_SECOND) + 10;
    return wanted < budget ? wanted : budget;
}

/* The grammar's plan of a task; NULL for a planner of random weights, which writes any codes. */
static bool plan_of(planner *p, const planner_task *task, lm_grammar_plan **plan, ace_error *error)
{
    *plan = NULL;
    if (!p->tokenizer) return true;
    const lm_grammar *grammar = grammar_of(p, task->profile, error);
    if (grammar) *plan = lm_grammar_plan_new(grammar, &task->rules, error);
    return *plan != NULL;
}

bool planner_code_budget(planner *p, const planner_task *task, int64_t *codes, ace_error *error)
{
    lm_grammar_plan *plan;
    if (!plan_of(p, task, &plan, error)) return false;
    *codes = budget_of(p, task, plan);
    lm_grammar_plan_free(plan);
    return true;
}

/* The codes among the tokens of an item. */
static bool take_codes(const planner *p, const lm_item *item, song_codes *list, ace_error *error)
{
    int32_t first = first_code(p);
    list->codes = ace_calloc((size_t)item->count, sizeof *list->codes, "audio codes", error);
    if (!list->codes) return false;
    for (int64_t i = 0; i < item->count; i++)
        if (item->tokens[i] >= first && item->tokens[i] < first + LM_CODES)
            list->codes[list->count++] = item->tokens[i] - first;
    return true;
}

/* The memory of a call for several songs. */
typedef struct choir {
    lm_grammar_item rules[LM_MAX_ITEMS];
    lm_free_text any_code[LM_MAX_ITEMS]; /* instead, where there is no grammar */
    lm_item items[LM_MAX_ITEMS];
    int32_t *tokens; /* [songs at once][budget] */
} choir;

/* Writes the codes of as many songs as sing together. */
static bool sing(planner *p, const planner_task *task, const lm_grammar_plan *plan, choir *c, token_count *count,
                 const uint64_t *seeds, int songs, song_codes *lists, ace_error *error)
{
    for (int i = 0; i < songs; i++) {
        c->any_code[i] = (lm_free_text){{first_code(p), first_code(p) + code_count(p)}, -1, false};
        c->items[i] = (lm_item){.prompt = task->prompt->data,
                                .prompt_count = (int64_t)task->prompt->count,
                                .constraint = plan ? lm_grammar_constraint(&c->rules[i], plan)
                                                   : lm_constraint_free_text(&c->any_code[i]),
                                .seed = seeds[i],
                                .tokens = c->tokens + i * count->budget};
    }
    lm_write_options options = options_of(task, LM_STREAM_CODES, count->budget, count);
    count->items = songs;
    bool ok = lm_write(p->session, c->items, songs, &options, error);
    for (int i = 0; ok && i < songs; i++) ok = take_codes(p, &c->items[i], &lists[i], error);
    count->before += songs * count->budget;
    return ok;
}

bool planner_write_codes(planner *p, const planner_task *task, const uint64_t *seeds, int songs, song_codes *lists,
                         ace_error *error)
{
    for (int i = 0; i < songs; i++) lists[i] = (song_codes){0};
    int at_once = task->at_once > 0 && task->at_once < songs ? task->at_once : songs;
    lm_grammar_plan *plan;
    if (!plan_of(p, task, &plan, error)) return false;
    int64_t budget = budget_of(p, task, plan);
    choir *c = ace_calloc(1, sizeof *c, "the songs' codes", error);
    if (c) c->tokens = ace_calloc((size_t)(at_once * budget), sizeof *c->tokens, "the songs' codes", error);
    bool ok = c && c->tokens;
    token_count count = {.p = p, .unit = "codes", .budget = budget, .total = songs * budget};
    for (int i = 0; ok && i < songs; i += at_once)
        ok = sing(p, task, plan, c, &count, seeds + i, songs - i < at_once ? songs - i : at_once, lists + i, error);
    for (int i = 0; !ok && i < songs; i++) {
        free(lists[i].codes);
        lists[i] = (song_codes){0};
    }
    if (c) free(c->tokens);
    free(c);
    lm_grammar_plan_free(plan);
    return ok;
}

/* ---- the work of a run ------------------------------------------------------------------------------------------- */

/* The meter when the first and the second token are there. */
typedef struct two_tokens {
    ace_device *meter;
    ace_device_stats at[2];
} two_tokens;

static void on_metered_token(void *user, const lm_progress *progress)
{
    two_tokens *t = user;
    if (progress->tokens <= 2) t->at[progress->tokens - 1] = ace_device_get_stats(t->meter);
}

/* Has two tokens written after `prompt` tokens, of which `ids` has as many. */
static bool write_two(const planner *p, lm_session *session, const planner_work *work, const int32_t *ids,
                      int64_t prompt, two_tokens *t, ace_error *error)
{
    lm_item items[LM_MAX_ITEMS];
    lm_free_text texts[LM_MAX_ITEMS];
    int32_t tokens[LM_MAX_ITEMS][2];
    for (int i = 0; i < work->items; i++) {
        texts[i] = (lm_free_text){{first_code(p), first_code(p) + code_count(p)}, -1, false};
        items[i] = (lm_item){.prompt = ids,
                             .prompt_count = prompt,
                             .constraint = lm_constraint_free_text(&texts[i]),
                             .tokens = tokens[i]};
    }
    lm_write_options options = {.sampling = lm_sampling_default(),
                                .stream = LM_STREAM_CODES,
                                .max_tokens = 2,
                                .negative = ids,
                                .negative_count = prompt,
                                .progress = on_metered_token,
                                .user = t};
    if (!work->guided) options.sampling.guidance = 1;
    return lm_write(session, items, work->items, &options, error);
}

/* What a step costs grows in proportion to what was read and written before it: so all of them cost as many times what
 * the middle one costs. */
static bool meter_work(const planner *p, const metered *m, const planner_work *work, ace_stage_cost *cost,
                       ace_error *error)
{
    int64_t middle = work->prompt + work->tokens / 2;
    int32_t *ids = ace_calloc((size_t)middle, sizeof *ids, "the plan of the planner", error);
    two_tokens t = {.meter = m->meter};
    ace_device_stats start = ace_device_get_stats(m->meter);
    bool ok = ids && write_two(p, m->session, work, ids, work->prompt, &t, error);
    if (ok) {
        cost->flops += t.at[0].flops - start.flops;
        cost->bytes_moved += t.at[0].bytes_moved - start.bytes_moved;
        cost->bytes_loaded += t.at[0].bytes_loaded - start.bytes_loaded;
        ok = write_two(p, m->session, work, ids, middle, &t, error);
    }
    if (ok) {
        double steps = (double)(work->tokens - 1);
        cost->flops += (t.at[1].flops - t.at[0].flops) * steps;
        cost->bytes_moved += (t.at[1].bytes_moved - t.at[0].bytes_moved) * steps;
        cost->bytes_loaded += (t.at[1].bytes_loaded - t.at[0].bytes_loaded) * steps;
    }
    free(ids);
    return ok;
}

bool planner_count_work(const planner *p, const planner_setup *setup, const planner_work *work, ace_stage_cost *cost,
                        ace_error *error)
{
    int64_t longest = work->prompt + work->tokens / 2 + 2;
    planner_setup room = *setup;
    room.limits = (lm_session_limits){.items = work->items,
                                      .guided = work->guided,
                                      .rows = lm_rows_needed(work->items, longest, work->guided ? longest : 0, 2),
                                      .positions = longest + 2};
    metered m;
    bool ok = open_metered(&m, p, &room, error) && meter_work(p, &m, work, cost, error);
    close_metered(&m);
    return ok;
}
