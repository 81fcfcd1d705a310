#include "vram/simulate.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool simulate_parse(const char *text, double *gib)
{
    double value = 0, place = 1;
    int digits = 0;
    bool fraction = false;
    const char *p = text + strspn(text, " \t");
    for (; (*p >= '0' && *p <= '9') || (*p == '.' && !fraction); p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        if (++digits > 15) return false;
        value = value * 10 + (*p - '0');
        if (fraction) place *= 10;
    }
    p += strspn(p, " \t\r\n");
    value /= place;
    if (*p || digits == 0 || !(value > 0) || value > 1048576) return false;
    *gib = value;
    return true;
}

static void warn(simulation *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(simulation *s, const char *format, ...)
{
    if (s->count >= SIMULATE_SENTENCES) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->warnings[s->count++], SIMULATE_SENTENCE, format, arguments);
    va_end(arguments);
}

static void begin(simulation *s, const char *variable, const char *value, double gib)
{
    s->active = true;
    s->gib = gib;
    snprintf(s->variable, sizeof s->variable, "%s", variable);
    snprintf(s->value, sizeof s->value, "%s", value);
    warn(s,
         "SIMULATION: %s=%s makes this program believe in a graphics card with %g GB of memory. Tier, limits and "
         "settings "
         "are that card's, not this machine's; remove %s to use the real ones",
         variable, s->value, gib, variable);
}

simulation simulate_read(const char *(*variable)(const char *name), const char *option)
{
    static const char *const names[] = {"MAX_CUDA_VRAM", "MAX_MPS_VRAM", "MAX_XPU_VRAM"};
    simulation s = {0};
    double gib = 0;
    if (option && simulate_parse(option, &gib)) begin(&s, "--vram", option, gib);
    for (int i = 0; i < 3; i++) {
        const char *value = variable(names[i]);
        if (!value || !value[strspn(value, " \t")]) continue;
        if (!simulate_parse(value, &gib))
            warn(&s,
                 "%s=%.40s is ignored: it must be a number of GB above 0, such as 8 or 7.5, without a unit; the real "
                 "memory is used",
                 names[i], value);
        else if (!s.active)
            begin(&s, names[i], value, gib);
    }
    return s;
}
