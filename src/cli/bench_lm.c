#include "bench_lm.h"

#include "cli.h"

#include <stdio.h>

static double larger(double a, double b)
{
    return a > b ? a : b;
}

void bench_machine_json(const ace_machine_rates *before, const ace_machine_rates *after)
{
    printf("\"machine\":{\"multiply_gflop_per_s\":[%.1f,%.1f],\"read_gb_per_s\":[%.2f,%.2f]}", before->multiply,
           after->multiply, before->read, after->read);
}

void bench_machine_text(const ace_machine_rates *before, const ace_machine_rates *after, int threads)
{
    printf("machine   multiplies %.0f GFLOP/s before, %.0f after; reads %.1f GB/s before, %.1f after (%s time)\n",
           before->multiply, after->multiply, before->read, after->read, threads == 1 ? "processor" : "wall");
}

static void print_json(const ace_measure_lm_options *o, const ace_lm_speed *s)
{
    printf("{\"stage\":\"lm\",\"lm\":");
    cli_json_string(o->lm);
    printf(",\"device\":");
    cli_json_string(s->device);
    printf(",\"songs\":%d,\"guidance\":%g,\"prompt_tokens\":%lld,\"codes\":%d", o->songs, o->guidance,
           (long long)s->prompt_tokens, o->codes);
    printf(",");
    bench_machine_json(&s->before, &s->after);
    printf(",\"prompt\":{\"seconds\":%.4f,\"tokens_per_s\":%.1f,\"gflop_per_s\":%.1f,\"share_of_multiply\":%.3f}",
           s->prompt_seconds, (double)s->prompt_tokens / s->prompt_seconds, s->prompt_gflop / s->prompt_seconds,
           s->prompt_share);
    printf(",\"writing\":{\"step_ms\":%.3f,\"codes_per_s\":%.2f,\"weight_bytes\":%.0f,\"step_bytes\":%.0f,"
           "\"gb_per_s\":%.2f,\"share_of_read\":%.3f,\"share_of_read_fastest\":%.3f}",
           s->step_seconds * 1e3, o->songs / s->step_seconds, s->weight_bytes, s->step_bytes,
           s->step_bytes * 1e-9 / s->step_seconds, s->step_share, s->fastest_share);
    printf(",\"planned_peak_bytes\":%zu,\"measured_peak_bytes\":%zu}\n", s->planned_peak, s->measured_peak);
}

static void print_text(const ace_measure_lm_options *o, const ace_lm_speed *s)
{
    double read = larger(s->before.read, s->after.read), reads = s->weight_bytes * 1e-9 / read;
    printf("planner %s of random weights on %s, %d song%s, guidance %g\n", o->lm, s->device, o->songs,
           o->songs == 1 ? "" : "s", o->guidance);
    bench_machine_text(&s->before, &s->after, o->threads);
    printf("prompt    %lld tokens in %.3f s: %.0f tokens/s, %.0f GFLOP/s, %.0f %% of what the machine multiplies\n",
           (long long)s->prompt_tokens, s->prompt_seconds, (double)s->prompt_tokens / s->prompt_seconds,
           s->prompt_gflop / s->prompt_seconds, 100 * s->prompt_share);
    printf("writing   %.1f ms a step, %.2f codes/s of each song, %.2f of all: %.2fx the song\n", s->step_seconds * 1e3,
           1 / s->step_seconds, o->songs / s->step_seconds, o->songs / s->step_seconds / 5);
    printf("          %.2f GB a step, %.1f GB/s, %.0f %% of what the machine reads (%.0f %% in the fastest step)\n",
           s->step_bytes * 1e-9, s->step_bytes * 1e-9 / s->step_seconds, 100 * s->step_share, 100 * s->fastest_share);
    printf("          a step costs what reading the weights %.2f times costs\n", s->step_seconds / reads);
    printf("peak memory: planned %zu bytes, measured %zu bytes%s\n", s->planned_peak, s->measured_peak,
           s->planned_peak == s->measured_peak ? " (equal)" : " (DIFFERENT: a bug)");
}

int bench_lm(const ace_measure_lm_options *options, bool json)
{
    ace_error error = {0};
    ace_lm_speed speed;
    if (!ace_measure_lm(options, &speed, &error)) return cli_fail(&error, json);
    if (json)
        print_json(options, &speed);
    else
        print_text(options, &speed);
    return 0;
}
