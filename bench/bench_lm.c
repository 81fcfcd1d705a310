/* bench_lm.c - how fast the planner writes at its real size, with random weights, and what share of the machine that
 * is.
 *
 *   bench_lm [-m 0.6B|1.7B|4B] [-t threads] [-b songs] [-g guidance] [-n codes] [-c prompt tokens] [-p f32|bf16]
 *
 * Writing is bound by reading the weights: its yardstick is the rate at which as many threads read a block of memory.
 * Reading a prompt is bound by arithmetic: its yardstick is the rate of independent fused multiply-adds. Both are
 * measured before and after, because other programs share a machine; the better of two is used. */
#include "lm/lm_engine.h"
#include "machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CODE = 151669, CODES = 64000, NEGATIVE = 33 };

typedef struct settings {
    const char *model;
    ace_cpu_options cpu;
    int songs;
    float guidance;
    int64_t codes, prompt;
} settings;

typedef struct timing {
    bool alone;                /* one thread: measure its processor time */
    double start, first, last; /* of the call, of the first and of the last token */
} timing;

static void note(void *user, const lm_progress *progress)
{
    timing *t = user;
    t->last = machine_clock(t->alone);
    if (progress->tokens == 1) t->first = t->last;
}

typedef struct machine_rates {
    double read, multiply;
} machine_rates;

/* The better of *rates and what is measured now. */
static void measure(machine_rates *rates, const settings *s, const ace_device *dev)
{
    rates->read = fmax(rates->read, machine_read_rate(s->cpu.threads));
    rates->multiply = fmax(rates->multiply, machine_peak(ace_device_name(dev), s->cpu.threads));
}

static void print_rates(const settings *s, const qwen3_lm *model, const timing *t, machine_rates machine)
{
    const qwen3_config *config = &model->decoder.config;
    const ace_device *dev = model->decoder.weights.dev;
    double table = (double)config->vocab_size * config->stack.hidden * 2;
    double layers = (double)ace_device_get_stats(dev).weight_bytes - table;
    double row = 2.0 * config->stack.kv_heads * config->stack.head_dim * config->stack.layers *
                 (ace_device_act(dev) == ACE_BF16 ? 2 : 4);
    double seen = (double)s->prompt + (double)s->codes / 2; /* keys that a song's step looks at, on average */
    if (s->guidance > 1) seen += NEGATIVE + (double)s->codes / 2;
    double step_bytes = layers + (double)CODES * config->stack.hidden * 2 + row * seen * s->songs;
    double steps = (double)s->codes - 1, seconds = t->last - t->first;
    double rate = steps / seconds, gigabytes = step_bytes * rate * 1e-9;
    double prompt_flops =
        layers / (ace_device_act(dev) == ACE_BF16 ? 2 : 4) * 2 * (double)(s->prompt + (s->guidance > 1 ? NEGATIVE : 0));
    double prompt_rate = prompt_flops / (t->first - t->start) * 1e-9;
    printf("%s on %s, %d song%s, guidance %g\n", s->model, ace_device_name(dev), s->songs, s->songs == 1 ? "" : "s",
           (double)s->guidance);
    printf("  machine: reads %.1f GB/s, multiplies %.0f GFLOP/s\n", machine.read, machine.multiply);
    printf("  prompt of %lld tokens: %.2f s, %.0f GFLOP/s, %.0f %% of what the machine multiplies\n",
           (long long)s->prompt, t->first - t->start, prompt_rate, 100 * prompt_rate / machine.multiply);
    printf(
        "  writing: %.2f codes/s a song, %.2f in all; %.2f GB a step, %.1f GB/s, %.0f %% of what the machine reads\n",
        rate, rate * s->songs, step_bytes * 1e-9, gigabytes, 100 * gigabytes / machine.read);
}

static bool write_codes(const settings *s, const qwen3_lm *model, timing *t, ace_error *error)
{
    ace_device *dev = model->decoder.weights.dev;
    bool guided = s->guidance > 1;
    lm_session_limits limits = {s->songs, guided, lm_rows_needed(s->songs, s->prompt, guided ? NEGATIVE : 0, s->codes),
                                (s->prompt > NEGATIVE ? s->prompt : NEGATIVE) + s->codes, 0};
    size_t scratch = (size_t)limits.rows * (size_t)model->decoder.config.stack.layers * 9000 + ((size_t)512 << 20);
    int32_t *prompt = calloc((size_t)s->prompt + NEGATIVE, sizeof *prompt);
    int32_t *tokens = calloc((size_t)s->codes * (size_t)s->songs, sizeof *tokens);
    lm_session *session =
        prompt && tokens && ace_scratch_reserve(dev, scratch, error) ? lm_session_open(model, &limits, error) : NULL;
    bool ok = session != NULL;
    if (ok) {
        for (int64_t i = 0; i < s->prompt + NEGATIVE; i++) prompt[i] = (int32_t)(i * 7919 % 150000);
        lm_item items[LM_MAX_ITEMS] = {0};
        lm_free_text texts[LM_MAX_ITEMS];
        for (int i = 0; i < s->songs; i++) {
            texts[i] = (lm_free_text){{FIRST_CODE, FIRST_CODE + CODES}, -1, false};
            items[i] = (lm_item){.prompt = prompt,
                                 .prompt_count = s->prompt,
                                 .constraint = lm_constraint_free_text(&texts[i]),
                                 .seed = (uint64_t)i,
                                 .tokens = tokens + i * s->codes};
        }
        lm_write_options options = {.sampling = lm_sampling_default(),
                                    .stream = LM_STREAM_CODES,
                                    .max_tokens = s->codes,
                                    .negative = prompt + s->prompt,
                                    .negative_count = NEGATIVE,
                                    .progress = note,
                                    .user = t};
        options.sampling.guidance = s->guidance;
        t->start = machine_clock(s->cpu.threads == 1);
        ok = lm_write(session, items, s->songs, &options, error);
    }
    lm_session_close(session);
    free(prompt);
    free(tokens);
    return ok;
}

static bool run_model(const settings *s, ace_device *dev, const ace_checkpoint *checkpoint, ace_error *error)
{
    qwen3_lm model;
    timing t = {.alone = s->cpu.threads == 1};
    machine_rates machine = {0};
    measure(&machine, s, dev);
    double start = machine_clock(s->cpu.threads == 1);
    qwen3_lm_load(&model, dev, checkpoint->parts[ACE_PART_LM], &checkpoint->lm);
    bool ok = ace_device_ok(dev, error);
    printf("made and packed %.2f GB in %.1f s\n", (double)ace_device_get_stats(dev).weight_bytes * 1e-9,
           machine_clock(s->cpu.threads == 1) - start);
    ok = ok && write_codes(s, &model, &t, error);
    measure(&machine, s, dev);
    if (ok) print_rates(s, &model, &t, machine);
    qwen3_lm_free(&model);
    return ok;
}

static bool run(const settings *s, ace_error *error)
{
    char variant[32];
    snprintf(variant, sizeof variant, "2b+%s", s->model);
    ace_checkpoint *checkpoint = checkpoint_open_synthetic(variant, error);
    ace_device *dev = checkpoint ? ace_cpu_open(&s->cpu, error) : NULL;
    bool ok = dev && run_model(s, dev, checkpoint, error);
    ace_device_close(dev);
    if (checkpoint) checkpoint_close(checkpoint);
    return ok;
}

int main(int argc, char **argv)
{
    settings s = {
        .model = "0.6B", .cpu = {.precision = ACE_BF16}, .songs = 1, .guidance = 2, .codes = 30, .prompt = 1000};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        switch (argv[i][0] == '-' ? argv[i][1] : 0) {
        case 'm':
            s.model = value;
            break;
        case 't':
            s.cpu.threads = atoi(value);
            break;
        case 'b':
            s.songs = atoi(value);
            break;
        case 'g':
            s.guidance = (float)atof(value);
            break;
        case 'n':
            s.codes = atoi(value);
            break;
        case 'c':
            s.prompt = atoi(value);
            break;
        case 'p':
            s.cpu.precision = strcmp(value, "f32") == 0 ? ACE_F32 : ACE_BF16;
            break;
        default:
            fprintf(stderr, "unknown option %s: see the head of bench_lm.c\n", argv[i]);
            return 2;
        }
    }
    if (s.songs < 1 || s.songs > LM_MAX_ITEMS || s.codes < 2 || s.prompt < 1) {
        fprintf(stderr, "1 to %d songs, at least 2 codes and a prompt of 1 token\n", LM_MAX_ITEMS);
        return 2;
    }
    ace_error error = {0};
    if (run(&s, &error)) return 0;
    fprintf(stderr, "%s\n", error.message);
    return 1;
}
