#include "vram/tiers.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "vram/tiers_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* data/tiers.json, put here by the build */
extern const unsigned char tiers_json[];
extern const size_t tiers_json_size;

/* ---- names ---- */

static const char *const lm_names[TIERS_LM_COUNT] = {"0.6B", "1.7B", "4B"};

const char *tiers_lm_name(tiers_lm lm)
{
    return lm >= 0 && lm < TIERS_LM_COUNT ? lm_names[lm] : "none";
}

tiers_lm tiers_lm_find(const char *name)
{
    for (tiers_lm lm = 0; lm < TIERS_LM_COUNT; lm++) {
        const char *found = strstr(name, lm_names[lm]);
        /* "4B" is not in "1.4B", nor in "14B" */
        bool whole = found && (found == name || !strchr("0123456789.", found[-1]));
        if (whole) return lm;
    }
    return TIERS_LM_NONE;
}

const char *tiers_choice_name(tiers_choice choice)
{
    return choice == TIERS_OFF ? "off" : choice == TIERS_ON ? "on" : "auto";
}

const char *tiers_option_name(tiers_option option)
{
    static const char *const names[TIERS_OPTION_COUNT] = {"flash_attention", "cpu_offload", "compile", "quantization"};
    return names[option];
}

int tiers_number(const tier *t)
{
    const char *digits = strncmp(t->id, "tier", 4) == 0 ? t->id + 4 : "";
    int number = 0;
    for (; *digits >= '0' && *digits <= '9' && number < 1000; digits++) number = number * 10 + (*digits - '0');
    return *digits == '\0' ? number : 0;
}

/* ---- the table ---- */

void tiers_free(tiers_table *table)
{
    if (!table) return;
    free(table->file);
    free(table);
}

tiers_table *tiers_parse(const char *bytes, size_t n, const char *name, ace_error *error)
{
    tiers_table *table = tiers_built_in(error);
    if (table) table->file = ace_strdup(name, error);
    if (table && table->file && tiers_read(table, bytes, n, name, error)) return table;
    tiers_free(table);
    return NULL;
}

tiers_table *tiers_built_in(ace_error *error)
{
    tiers_table *table = ace_calloc(1, sizeof *table, "the tier table", error);
    if (table && tiers_read(table, (const char *)tiers_json, tiers_json_size, NULL, error)) return table;
    tiers_free(table);
    return NULL;
}

tiers_table *tiers_load(const char *path, ace_error *error)
{
    size_t n = 0;
    char *bytes = ace_read_file(path, TIERS_FILE_LIMIT, &n, error);
    tiers_table *table = bytes ? tiers_parse(bytes, n, path, error) : NULL;
    free(bytes);
    return table;
}

const tiers_profile *tiers_find_profile(const tiers_table *table, const char *name, ace_error *error)
{
    if (!name) name = table->default_profile;
    for (int i = 0; i < TIERS_PROFILES; i++)
        if (strcmp(table->profiles[i].name, name) == 0) return &table->profiles[i];
    ace_fail(error, ACE_ERROR_USAGE, "there is no tier profile '%.40s': choose %s or %s", name, table->profiles[0].name,
             table->profiles[1].name);
    return NULL;
}

/* ---- choosing ---- */

const tier *tiers_select(const tiers_profile *profile, double gib, bool literal)
{
    if (!(gib > 0)) return NULL;
    for (int i = profile->count - 1; i > 0; i--) {
        const tier *t = &profile->tiers[i];
        double start = literal ? t->start : t->start - t->tolerance;
        bool at_start = gib == start && (t->start_included || start < t->start);
        if (gib > start || at_start) return t;
    }
    return &profile->tiers[0];
}

const tier *tiers_find(const tiers_profile *profile, const char *id)
{
    for (int i = 0; i < profile->count; i++)
        if (strcmp(profile->tiers[i].id, id) == 0) return &profile->tiers[i];
    return NULL;
}
