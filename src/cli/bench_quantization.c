#include "bench_quantization.h"

#include "cli.h"

#include <stdio.h>

typedef struct table {
    bool json;
    int lines;
} table;

static double least(const ace_quantization_effect *e)
{
    double worst = e->cosine[0];
    for (int i = 1; i < ACE_QUANTIZATION_STEPS; i++)
        if (e->cosine[i] < worst) worst = e->cosine[i];
    return worst;
}

static void print_json(table *t, const ace_quantization_effect *e)
{
    printf("%s{\"precision\":\"%s\",\"quantization\":\"%s\",\"cosine\":[", t->lines++ ? "," : "", e->precision,
           e->quantization);
    for (int i = 0; i < ACE_QUANTIZATION_STEPS; i++) printf("%s%.7f", i ? "," : "", e->cosine[i]);
    printf("],\"least_cosine\":%.7f,\"song_cosine\":%.7f,\"weight_bytes\":%zu,\"peak_bytes\":%zu}", least(e),
           e->song_cosine, e->weight_bytes, e->peak_bytes);
}

static void print_line(void *user, const ace_quantization_effect *e)
{
    static const double mib = 1048576.0;
    table *t = user;
    if (t->json) {
        print_json(t, e);
    } else {
        printf("%-5s %-5s", e->precision, e->quantization);
        for (int i = 0; i < ACE_QUANTIZATION_STEPS; i++) printf(" %8.6f", e->cosine[i]);
        printf("  %8.6f %12.1f %10.1f\n", e->song_cosine, (double)e->weight_bytes / mib, (double)e->peak_bytes / mib);
    }
    fflush(stdout);
}

int bench_quantization(const ace_engine_options *options, double duration, bool json)
{
    ace_error error = {0};
    table t = {.json = json};
    ace_engine *engine = ace_engine_open(options, &error);
    if (!engine) return cli_fail(&error, json);
    cli_interrupt_stops(engine);
    ace_engine_info info = ace_engine_get_info(engine);
    if (json) {
        printf("{\"stage\":\"quantization\",\"checkpoint\":");
        cli_json_string(info.checkpoint);
        printf(",\"device\":");
        cli_json_string(info.device);
        printf(",\"duration_s\":%g,\"forms\":[", duration);
    } else {
        printf("%s on %s, %g s: cosine of each velocity with the exact one (float32)\n%-11s", info.checkpoint,
               info.device, duration, "");
        for (int i = 1; i <= ACE_QUANTIZATION_STEPS; i++) printf("   step %d", i);
        printf("  %8s %12s %10s\n", "song", "weights MiB", "peak MiB");
    }
    bool ok = ace_measure_quantization(engine, duration, print_line, &t, &error);
    if (json) printf("]}\n");
    cli_interrupt_stops(NULL);
    ace_engine_close(engine);
    return ok ? 0 : cli_fail(&error, json);
}
