#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool cli_misused(ace_error *error, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    error->status = ACE_ERROR_USAGE;
    vsnprintf(error->message, sizeof error->message, format, values);
    va_end(values);
    return false;
}

static const cli_option *find(const cli_option *options, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(options[i].name, name) == 0 || (options[i].brief && strcmp(options[i].brief, name) == 0))
            return &options[i];
    return NULL;
}

/* Handles the option at arguments[0]; *used becomes the number of arguments it took. */
static bool option(const cli_parser *parser, int count, char **arguments, int *used, ace_error *error)
{
    char name[64];
    const char *equals = strchr(arguments[0], '='), *value = equals ? equals + 1 : NULL;
    size_t n = equals ? (size_t)(equals - arguments[0]) : strlen(arguments[0]);
    if (n >= sizeof name) return cli_misused(error, "there is no option '%.60s'", arguments[0]);
    memcpy(name, arguments[0], n);
    name[n] = '\0';
    const char *next = count > 1 ? arguments[1] : NULL;
    const cli_option *o = find(parser->options, parser->count, name);
    if (!o && parser->more) o = find(parser->more, parser->more_count, name);
    if (!o) o = find(cli_engine_options, cli_engine_option_count, name);
    *used = 1;
    if (!o) {
        int taken = parser->unknown ? parser->unknown(parser->target, name, value, next, used, error) : 0;
        return taken > 0 || (taken == 0 && cli_misused(error, "there is no option '%s'; --help lists them", name));
    }
    if (!o->value) return value ? cli_misused(error, "%s takes no value", name) : o->set(parser->target, "", error);
    if (!value) {
        if (!next) return cli_misused(error, "%s needs a value: %s", name, o->value);
        value = next;
        *used = 2;
    }
    return o->set(parser->target, value, error);
}

bool cli_parse(const cli_parser *parser, int count, char **arguments, bool *help, ace_error *error)
{
    bool options = true;
    *help = false;
    for (int i = 0, used = 1; i < count; i += used) {
        const char *argument = arguments[i];
        used = 1;
        if (options && strcmp(argument, "--") == 0) {
            options = false;
        } else if (options && (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0)) {
            *help = true;
            return true;
        } else if (options && argument[0] == '-' && argument[1]) {
            if (!option(parser, count - i, arguments + i, &used, error)) return false;
        } else if (!parser->positional) {
            return cli_misused(error, "'%.60s' is not expected here; --help shows how to call this command", argument);
        } else if (!parser->positional(parser->target, argument, error)) {
            return false;
        }
    }
    return true;
}

void cli_print_options(const cli_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", options[i].brief ? options[i].brief : "",
                 options[i].brief ? ", " : "", options[i].name, options[i].value ? " " : "",
                 options[i].value ? options[i].value : "");
        printf("  %-28s %s\n", left, options[i].help);
    }
}

/* ---- the engine's options ---- */

static bool set_number(int *target, const char *name, const char *value, ace_error *error)
{
    char *end;
    long n = strtol(value, &end, 10);
    if (end == value || *end || n < 0 || n > 1000000)
        return cli_misused(error, "%s cannot be '%.40s': give a whole number", name, value);
    *target = (int)n;
    return true;
}

#define TEXT_OPTION(member)                                                     \
    static bool set_##member(void *target, const char *value, ace_error *error) \
    {                                                                           \
        (void)error;                                                            \
        ((ace_engine_options *)target)->member = value;                         \
        return true;                                                            \
    }
TEXT_OPTION(model)
TEXT_OPTION(dit)
TEXT_OPTION(text_encoder)
TEXT_OPTION(vae)
TEXT_OPTION(lm)
TEXT_OPTION(genres)
TEXT_OPTION(recipe)
TEXT_OPTION(device)
TEXT_OPTION(precision)
TEXT_OPTION(quantization)
TEXT_OPTION(lm_quantization)
TEXT_OPTION(tier_profile)

static bool set_threads(void *target, const char *value, ace_error *error)
{
    return set_number(&((ace_engine_options *)target)->threads, "--threads", value, error);
}

static bool set_memory(void *target, const char *value, ace_error *error)
{
    char *end;
    double gib = strtod(value, &end);
    if (end == value || *end || !(gib > 0 && gib < 1e6))
        return cli_misused(error, "--memory cannot be '%.40s': give gigabytes, such as 4 or 7.5", value);
    ((ace_engine_options *)target)->memory_limit = (size_t)(gib * 1073741824.0);
    return true;
}

static bool set_window(void *target, const char *value, ace_error *error)
{
    return set_number(&((ace_engine_options *)target)->vae_window, "--vae-window", value, error);
}

const cli_option cli_engine_options[] = {
    {"--model", "-m", "PATH", "checkpoint directory or file (or set ACESTEP_MODEL; else ./checkpoints)", set_model},
    {"--dit", NULL, "PATH", "take the diffusion transformer from here", set_dit},
    {"--text-encoder", NULL, "PATH", "take the text encoder from here", set_text_encoder},
    {"--vae", NULL, "PATH", "take the VAE from here", set_vae},
    {"--lm", NULL, "PATH", "take the planner, a 5 Hz language model, from here; none: do without", set_lm},
    {"--genres", NULL, "FILE", "the genres that the planner may write, one a line (default: any)", set_genres},
    {"--recipe", NULL, "NAME", "turbo or base (base and sft), for a file that does not say which", set_recipe},
    {"--device", NULL, "NAME", "auto (default: an NVIDIA GPU that can be used, else the CPU), cpu, cuda, cuda:N",
     set_device},
    {"--precision", NULL, "KIND", "bf16 (default) or f32", set_precision},
    {"--quantization", NULL, "KIND",
     "DiT layers: none (default), int8 (half of bf16's memory, small error), int4 (a\n"
     "                               quarter, larger error), keep (a GGUF's own; same bytes as none)",
     set_quantization},
    {"--lm-quantization", NULL, "KIND", "the same for the planner's layers", set_lm_quantization},
    {"--threads", "-t", "N", "threads (default: all CPUs this process may use)", set_threads},
    {"--memory", NULL, "GB", "keep weights and working memory below this; costs time, same bytes", set_memory},
    {"--tier-profile", NULL, "NAME", "a pretended card's limits: seed (as promised, default) or measured",
     set_tier_profile},
    {"--vae-window", NULL, "FRAMES", "latent frames decoded at a time; less memory, same bytes", set_window},
};
const size_t cli_engine_option_count = sizeof cli_engine_options / sizeof *cli_engine_options;

void cli_find_model(ace_engine_options *options)
{
    struct stat info;
    if (options->model || options->synthetic) return;
    options->model = getenv("ACESTEP_MODEL");
    if (!options->model && stat("checkpoints", &info) == 0) options->model = "checkpoints";
}
