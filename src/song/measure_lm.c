/* measure_lm.c - how fast the planner reads and writes at its real size, and what share of the machine that is. */
#include "base/error.h"
#include "base/memory.h"
#include "device/rates.h"
#include "lm/lm_engine.h"
#include "lm/lm_grammar.h"
#include "song/quantization.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_CODE = 151669, /* the first id after those of the text (lm.md 2.6) */
    NEGATIVE = 33,       /* tokens of the default unconditional prompt (lm.md 3.7) */
    MOST_SONGS = 8,
    MOST_PROMPT = 8192,
    MOST_CODES = 3000
};

typedef struct measurement {
    ace_measure_lm_options options; /* with every default filled in */
    const ace_checkpoint *checkpoint;
    ace_weight_form form; /* of the layers */
    ace_device *dev;
    lm_session_limits limits;
    int32_t *prompts, *tokens; /* the prompt and the unconditional one; what is written */
    double *times;             /* at which each code of every song was there */
    double start, flops, prompt_flops;
    ace_lm_speed *speed;
} measurement;

static bool guided(const measurement *m)
{
    return m->options.guidance > 1;
}

static bool alone(const measurement *m)
{
    return m->options.threads == 1;
}

/* ---- what is measured ------------------------------------------------------------------------------------------ */

static bool in_range(const char *what, double value, double low, double high, ace_error *error)
{
    return (value >= low && value <= high) ||
           ace_fail(error, ACE_ERROR_USAGE, "%s cannot be %g: give %g to %g", what, value, low, high);
}

static bool settle(measurement *m, const ace_measure_lm_options *options, ace_error *error)
{
    ace_measure_lm_options *o = &m->options;
    *o = *options;
    if (!o->lm) o->lm = "0.6B";
    if (!o->precision) o->precision = "bf16";
    if (o->songs == 0) o->songs = 1;
    if (o->prompt == 0) o->prompt = 1000;
    if (o->codes == 0) o->codes = 100;
    if (o->guidance == 0) o->guidance = 2;
    if (strcmp(o->lm, "0.6B") != 0 && strcmp(o->lm, "1.7B") != 0 && strcmp(o->lm, "4B") != 0)
        return ace_fail(error, ACE_ERROR_USAGE, "there is no planner of the size '%.32s': give 0.6B, 1.7B or 4B",
                        o->lm);
    if (strcmp(o->precision, "bf16") != 0 && strcmp(o->precision, "f32") != 0)
        return ace_fail(error, ACE_ERROR_USAGE, "precision cannot be '%.32s': give bf16 or f32", o->precision);
    if (!quantization_parse(o->quantization, "--lm-quantization", &m->form, error)) return false;
    if (m->form == ACE_FORM_BLOCKS)
        return ace_fail(error, ACE_ERROR_USAGE, "random weights have no blocks to keep: give none, int8 or int4");
    return in_range("the number of threads", o->threads, 0, 1024, error) &&
           in_range("the number of songs", o->songs, 1, MOST_SONGS, error) &&
           in_range("the length of the prompt", o->prompt, 1, MOST_PROMPT, error) &&
           in_range("the number of codes", o->codes, 2, MOST_CODES, error) &&
           in_range("guidance", o->guidance, 1, 100, error);
}

static bool open_parts(measurement *m, ace_checkpoint **checkpoint, ace_error *error)
{
    const ace_measure_lm_options *o = &m->options;
    char variant[32];
    snprintf(variant, sizeof variant, "2b+%.16s", o->lm);
    *checkpoint = checkpoint_open_synthetic(variant, error);
    if (!*checkpoint) return false;
    m->checkpoint = *checkpoint;
    m->dev = ace_cpu_open(
        &(ace_cpu_options){.precision = strcmp(o->precision, "f32") == 0 ? ACE_F32 : ACE_BF16, .threads = o->threads},
        error);
    if (!m->dev) return false;
    m->prompts = ace_calloc((size_t)(o->prompt + NEGATIVE), sizeof *m->prompts, "the prompts", error);
    m->tokens = m->prompts ? ace_calloc((size_t)o->songs * (size_t)o->codes, sizeof *m->tokens, "codes", error) : NULL;
    m->times = m->tokens ? ace_calloc((size_t)o->codes + 1, sizeof *m->times, "times", error) : NULL;
    int64_t negative = guided(m) ? NEGATIVE : 0;
    m->limits = (lm_session_limits){.items = o->songs,
                                    .guided = guided(m),
                                    .rows = lm_rows_needed(o->songs, o->prompt, negative, o->codes),
                                    .positions = (o->prompt > NEGATIVE ? o->prompt : NEGATIVE) + o->codes};
    return m->times != NULL;
}

static void load(const measurement *m, qwen3_lm *model, ace_device *dev)
{
    const qwen3_lm_storage storage = {.layers.form = m->form};
    qwen3_lm_load(model, dev, m->checkpoint->parts[ACE_PART_LM], &m->checkpoint->lm, &storage);
}

/* The working memory that a session will use. */
static bool plan(measurement *m, size_t *bytes, size_t *host, ace_error *error)
{
    ace_device *meter = ace_meter_open(m->dev, error);
    if (!meter) return false;
    qwen3_lm model;
    load(m, &model, meter);
    lm_session *session = ace_device_ok(meter, error) ? lm_session_open(&model, &m->limits, error) : NULL;
    bool ok = session != NULL;
    ace_device_stats stats = ace_device_get_stats(meter);
    *bytes = stats.scratch_peak;
    *host = stats.host_peak;
    m->speed->planned_peak = ace_device_get_stats(m->dev).workspace + stats.weight_bytes + stats.scratch_peak;
    lm_session_close(session);
    qwen3_lm_free(&model);
    ace_device_close(meter);
    return ok;
}

/* ---- measuring ------------------------------------------------------------------------------------------------- */

static bool measure_machine(const measurement *m, ace_machine_rates *rates, ace_error *error)
{
    return ace_measure_machine(ace_device_name(m->dev), m->options.threads, rates, error);
}

static void note(void *user, const lm_progress *progress)
{
    measurement *m = user;
    m->times[progress->tokens] = rates_clock(alone(m));
    if (progress->tokens == 1) m->prompt_flops = ace_device_get_stats(m->dev).flops - m->flops;
}

/* Writes `codes` codes of each song. `turn` makes prompts that begin differently, of which nothing can be reused. */
static bool write_codes(measurement *m, lm_session *session, int turn, int codes, ace_error *error)
{
    const ace_measure_lm_options *o = &m->options;
    lm_item items[MOST_SONGS] = {0};
    lm_free_text texts[MOST_SONGS];
    for (int i = 0; i < o->prompt + NEGATIVE; i++) m->prompts[i] = (int32_t)((i + turn) * 7919 % 150000);
    for (int i = 0; i < o->songs; i++) {
        texts[i] = (lm_free_text){{FIRST_CODE, FIRST_CODE + LM_CODES}, -1, false};
        items[i] = (lm_item){.prompt = m->prompts,
                             .prompt_count = o->prompt,
                             .constraint = lm_constraint_free_text(&texts[i]),
                             .seed = (uint64_t)i,
                             .tokens = m->tokens + (size_t)i * (size_t)o->codes};
    }
    lm_write_options write = {.sampling = lm_sampling_default(),
                              .stream = LM_STREAM_CODES,
                              .max_tokens = codes,
                              .negative = m->prompts + o->prompt,
                              .negative_count = NEGATIVE,
                              .progress = note,
                              .user = m};
    write.sampling.guidance = (float)o->guidance;
    m->flops = ace_device_get_stats(m->dev).flops;
    m->start = rates_clock(alone(m));
    return lm_write(session, items, o->songs, &write, error);
}

/* The bytes that the step which wrote the code at `position` read. */
static double bytes_of_step(const measurement *m, int position)
{
    const transformer_config *stack = &m->checkpoint->lm.stack;
    double token =
        2.0 * stack->kv_heads * stack->head_dim * stack->layers * (double)ace_dtype_block_bytes(ace_device_act(m->dev));
    double seen = m->options.prompt + position;
    if (guided(m)) seen += NEGATIVE + position;
    return m->speed->weight_bytes + token * seen * m->options.songs;
}

static void settle_speed(const measurement *m)
{
    ace_lm_speed *s = m->speed;
    int steps = m->options.codes - 1;
    double multiply = fmax(s->before.multiply, s->after.multiply), read = fmax(s->before.read, s->after.read);
    s->prompt_tokens = m->options.prompt + (guided(m) ? NEGATIVE : 0);
    s->prompt_seconds = m->times[1] - m->start;
    s->prompt_gflop = m->prompt_flops * 1e-9;
    s->prompt_share = s->prompt_gflop / s->prompt_seconds / multiply;
    s->step_seconds = (m->times[steps + 1] - m->times[1]) / steps;
    double sum = 0, fastest = 0;
    for (int i = 1; i <= steps; i++) {
        sum += bytes_of_step(m, i);
        fastest = fmax(fastest, bytes_of_step(m, i) / (m->times[i + 1] - m->times[i]));
    }
    s->step_bytes = sum / steps;
    s->step_share = s->step_bytes / s->step_seconds * 1e-9 / read;
    s->fastest_share = fastest * 1e-9 / read;
}

/* The embedding table, which is the head too, stays bf16 in every precision. */
static void count_weights(const measurement *m)
{
    double row = 2.0 * m->checkpoint->lm.stack.hidden, table = row * (double)m->checkpoint->lm.vocab_size;
    m->speed->weight_bytes = (double)ace_device_get_stats(m->dev).weight_bytes - table + LM_CODES * row;
}

static bool measure(measurement *m, const qwen3_lm *model, ace_error *error)
{
    ace_lm_speed *s = m->speed;
    size_t scratch, host;
    if (!plan(m, &scratch, &host, error) || !ace_scratch_reserve(m->dev, scratch, host, error)) return false;
    lm_session *session = lm_session_open(model, &m->limits, error);
    count_weights(m);
    /* the first call touches the memory for the first time */
    bool ok = session && write_codes(m, session, 1, 2, error) && measure_machine(m, &s->before, error) &&
              write_codes(m, session, 0, m->options.codes, error) && measure_machine(m, &s->after, error);
    lm_session_close(session);
    s->measured_peak = ace_device_get_stats(m->dev).total_peak;
    if (ok) settle_speed(m);
    return ok;
}

bool ace_measure_lm(const ace_measure_lm_options *options, ace_lm_speed *speed, ace_error *error)
{
    measurement m = {.speed = speed};
    ace_checkpoint *checkpoint = NULL;
    qwen3_lm model = {0};
    *speed = (ace_lm_speed){0};
    bool ok = settle(&m, options, error) && open_parts(&m, &checkpoint, error);
    if (ok) {
        snprintf(speed->device, sizeof speed->device, "%s", ace_device_name(m.dev));
        load(&m, &model, m.dev);
        ok = ace_device_ok(m.dev, error) && measure(&m, &model, error);
        qwen3_lm_free(&model);
    }
    ace_device_close(m.dev);
    if (checkpoint) checkpoint_close(checkpoint);
    free(m.prompts);
    free(m.tokens);
    free(m.times);
    return ok;
}
