#include "vram/tiers_read.h"

#include "base/error.h"
#include "formats/json.h"
#include "vram/json_place.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The text being read and where to complain. */
typedef struct reader {
    const char *text;
    size_t n;
    const char *name; /* the user's file; NULL: the built-in table */
    ace_error *error;
} reader;

static tiers_place place_of(const reader *r, const json_path *path, bool of_key)
{
    tiers_place place = {0, 0};
    if (r->name) json_place(r->text, r->n, path, of_key, &place.line, &place.column);
    return place;
}

/* "my.json:12:5: " and a sentence. Returns false. */
static bool complain_at(const reader *r, tiers_place place, const char *format, va_list arguments)
{
    char sentence[512];
    vsnprintf(sentence, sizeof sentence, format, arguments);
    if (!r->name) return ace_fail(r->error, ACE_ERROR_FORMAT, "the built-in tier table: %s", sentence);
    return ace_fail(r->error, ACE_ERROR_FORMAT, "%s:%d:%d: %s", r->name, place.line, place.column, sentence);
}

static bool complain(const reader *r, const json_path *path, bool of_key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static bool complain(const reader *r, const json_path *path, bool of_key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain_at(r, place_of(r, path, of_key), format, arguments);
    va_end(arguments);
    return false;
}

/* The last key of a path, for messages. */
static const char *last(const json_path *path)
{
    return path->count > 0 ? path->keys[path->count - 1] : "the file";
}

/* ---- values ---- */

static bool wrong(const reader *r, const json_path *path, const json_t *value, const char *wanted)
{
    return complain(r, path, false, "\"%s\" must be %s, but it is %s", last(path), wanted, json_type_text(value));
}

static bool want_object(const reader *r, const json_path *path, const json_t *value)
{
    return json_is_object(value) || wrong(r, path, value, "an object");
}

static bool read_number(const reader *r, const json_path *path, const json_t *value, double min, double max,
                        double *number)
{
    if (!json_is_number(value)) return wrong(r, path, value, "a number");
    double found = json_number_value(value);
    if (!(found >= min && found <= max))
        return complain(r, path, false, "\"%s\" is %g, outside %g to %g", last(path), found, min, max);
    *number = found;
    return true;
}

static bool read_integer(const reader *r, const json_path *path, const json_t *value, int min, int max, int *integer)
{
    if (!json_is_integer(value)) return wrong(r, path, value, "a whole number");
    json_int_t found = json_integer_value(value);
    if (found < min || found > max)
        return complain(r, path, false, "\"%s\" is %" JSON_INTEGER_FORMAT ", outside %d to %d", last(path), found, min,
                        max);
    *integer = (int)found;
    return true;
}

static bool read_bool(const reader *r, const json_path *path, const json_t *value, bool *truth)
{
    if (!json_is_boolean(value)) return wrong(r, path, value, "true or false");
    *truth = json_is_true(value);
    return true;
}

/* One of `count` words, by its index. */
static bool read_word(const reader *r, const json_path *path, const json_t *value, const char *const *words, int count,
                      int *index)
{
    if (!json_is_string(value)) return wrong(r, path, value, "a word in quotes");
    for (int i = 0; i < count; i++)
        if (strcmp(json_string_value(value), words[i]) == 0) {
            *index = i;
            return true;
        }
    char list[128] = "";
    for (int i = 0; i < count; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", words[i]);
    return complain(r, path, false, "\"%s\" cannot be \"%.40s\": choose one of %s", last(path),
                    json_string_value(value), list);
}

static const char *const lm_words[TIERS_LM_COUNT] = {"0.6B", "1.7B", "4B"};

static bool read_lm_models(const reader *r, const json_path *path, const json_t *value, unsigned *models)
{
    if (!json_is_array(value)) return wrong(r, path, value, "a list such as [\"0.6B\"]");
    size_t i;
    json_t *element;
    unsigned found = 0;
    json_array_foreach(value, i, element)
    {
        int lm = 0;
        if (!read_word(r, path, element, lm_words, TIERS_LM_COUNT, &lm)) return false;
        found |= 1u << lm;
    }
    *models = found;
    return true;
}

static bool read_lm_model(const reader *r, const json_path *path, const json_t *value, tiers_lm *model)
{
    int lm = TIERS_LM_NONE;
    if (!json_is_null(value) && !read_word(r, path, value, lm_words, TIERS_LM_COUNT, &lm)) return false;
    *model = (tiers_lm)lm;
    return true;
}

static bool read_lm_share(const reader *r, const json_path *path, json_t *value, tier *t)
{
    t->lm_unlimited = json_is_null(value);
    if (t->lm_unlimited) return true;
    if (!want_object(r, path, value)) return false;
    memset(t->lm_share, 0, sizeof t->lm_share);
    const char *key;
    json_t *share;
    json_object_foreach(value, key, share)
    {
        json_path inner = json_path_with(*path, key);
        tiers_lm lm = TIERS_LM_NONE;
        for (tiers_lm i = 0; i < TIERS_LM_COUNT; i++)
            if (strcmp(key, lm_words[i]) == 0) lm = i;
        if (lm == TIERS_LM_NONE)
            return complain(r, &inner, true, "there is no language model \"%.40s\": choose one of 0.6B, 1.7B, 4B", key);
        if (!read_number(r, &inner, share, 0.1, 1024, &t->lm_share[lm])) return false;
    }
    return true;
}

/* ---- a tier ---- */

/* The keys of a tier in a file. Two of them say where it begins. */
static const struct tier_key {
    const char *name;
    tiers_key key;
} tier_keys[] = {
    {"from_gib", TIERS_KEY_START},
    {"above_gib", TIERS_KEY_START},
    {"tolerance_gib", TIERS_KEY_TOLERANCE},
    {"lm_models", TIERS_KEY_LM_MODELS},
    {"init_lm", TIERS_KEY_INIT_LM},
    {"lm_model", TIERS_KEY_LM_MODEL},
    {"lm_share_gib", TIERS_KEY_LM_SHARE},
    {"max_duration_with_lm", TIERS_KEY_DURATION_WITH_LM},
    {"max_duration_without_lm", TIERS_KEY_DURATION_WITHOUT_LM},
    {"max_batch_with_lm", TIERS_KEY_BATCH_WITH_LM},
    {"max_batch_without_lm", TIERS_KEY_BATCH_WITHOUT_LM},
    {"flash_attention", TIERS_KEY_OPTIONS + TIERS_FLASH_ATTENTION},
    {"cpu_offload", TIERS_KEY_OPTIONS + TIERS_CPU_OFFLOAD},
    {"compile", TIERS_KEY_OPTIONS + TIERS_COMPILE},
    {"quantization", TIERS_KEY_OPTIONS + TIERS_QUANTIZATION},
    {"advice", TIERS_KEY_ADVICE},
};
enum { TIER_KEYS = sizeof tier_keys / sizeof *tier_keys };

static const struct tier_key *find_tier_key(const char *name)
{
    for (int i = 0; i < TIER_KEYS; i++)
        if (strcmp(tier_keys[i].name, name) == 0) return &tier_keys[i];
    return NULL;
}

static bool read_tier_value(const reader *r, const json_path *path, json_t *value, const struct tier_key *key, tier *t)
{
    static const char *const switches[] = {"off", "on", "auto"};
    static const char *const advice[] = {"dit_only", "small_lm", "large_lm"};
    int word = 0;
    switch (key->key) {
    case TIERS_KEY_START:
        t->start_included = strcmp(key->name, "from_gib") == 0;
        return read_number(r, path, value, 0, 1048576, &t->start);
    case TIERS_KEY_TOLERANCE:
        return read_number(r, path, value, 0, 4, &t->tolerance);
    case TIERS_KEY_LM_MODELS:
        return read_lm_models(r, path, value, &t->lm_models);
    case TIERS_KEY_INIT_LM:
        return read_bool(r, path, value, &t->init_lm);
    case TIERS_KEY_LM_MODEL:
        return read_lm_model(r, path, value, &t->lm_model);
    case TIERS_KEY_LM_SHARE:
        return read_lm_share(r, path, value, t);
    case TIERS_KEY_DURATION_WITH_LM:
        return read_integer(r, path, value, 10, 600, &t->max_duration[1]);
    case TIERS_KEY_DURATION_WITHOUT_LM:
        return read_integer(r, path, value, 10, 600, &t->max_duration[0]);
    case TIERS_KEY_BATCH_WITH_LM:
        return read_integer(r, path, value, 1, 8, &t->max_batch[1]);
    case TIERS_KEY_BATCH_WITHOUT_LM:
        return read_integer(r, path, value, 1, 8, &t->max_batch[0]);
    case TIERS_KEY_ADVICE:
        if (!read_word(r, path, value, advice, 3, &word)) return false;
        t->advice = (tiers_advice)word;
        return true;
    default: /* one of the four options */
        if (!read_word(r, path, value, switches, 3, &word)) return false;
        t->options[key->key - TIERS_KEY_OPTIONS] = (tiers_choice)word;
        return true;
    }
}

static bool is_comment(const char *key)
{
    return strcmp(key, "comment") == 0;
}

static bool unknown_key(const reader *r, const json_path *path, const char *inside)
{
    return complain(r, path, true, "there is no key \"%.60s\" in %s", last(path), inside);
}

/* `whole`: every value must be there, as nothing else gives it. */
static bool read_tier(const reader *r, const json_path *path, json_t *object, bool whole, tier *t)
{
    if (!want_object(r, path, object)) return false;
    unsigned seen = 0;
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        json_path inner = json_path_with(*path, name);
        const struct tier_key *key = find_tier_key(name);
        if (is_comment(name)) continue;
        if (!key) return unknown_key(r, &inner, "a tier");
        if (key->key == TIERS_KEY_START && seen & 1u << TIERS_KEY_START)
            return complain(r, &inner, true, "a tier has either \"from_gib\" or \"above_gib\", not both");
        if (!read_tier_value(r, &inner, value, key, t)) return false;
        t->places[key->key] = place_of(r, &inner, false);
        seen |= 1u << key->key;
    }
    if (!whole || seen == (1u << TIERS_KEY_COUNT) - 1) return true;
    return complain(r, path, false, "%s is not complete", t->id);
}

/* ---- profiles ---- */

static bool read_tiers(const reader *r, const json_path *path, json_t *object, tiers_profile *profile)
{
    if (!want_object(r, path, object)) return false;
    const char *id;
    json_t *value;
    json_object_foreach(object, id, value)
    {
        json_path inner = json_path_with(*path, id);
        if (is_comment(id)) continue;
        tier *t = NULL;
        for (int i = 0; i < profile->count && !t; i++)
            if (strcmp(profile->tiers[i].id, id) == 0) t = &profile->tiers[i];
        bool whole = !t && !r->name;
        if (whole && profile->count < TIERS_MAX) {
            t = &profile->tiers[profile->count++];
            snprintf(t->id, sizeof t->id, "%s", id);
        }
        if (!t) return complain(r, &inner, true, "there is no tier \"%.40s\" in the profile %s", id, profile->name);
        if (!read_tier(r, &inner, value, whole, t)) return false;
    }
    return true;
}

static bool read_profile(const reader *r, const json_path *path, json_t *object, tiers_table *table,
                         tiers_profile *profile)
{
    if (!want_object(r, path, object)) return false;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        json_path inner = json_path_with(*path, key);
        bool ok = true;
        if (strcmp(key, "measured") == 0) {
            ok = read_bool(r, &inner, value, &profile->measured);
        } else if (strcmp(key, "tiers") == 0) {
            ok = read_tiers(r, &inner, value, profile);
        } else if (strcmp(key, "based_on") == 0 && !r->name) {
            const char *base_name = json_string_value(value);
            const tiers_profile *base = base_name ? tiers_find_profile(table, base_name, r->error) : NULL;
            if (!base) return complain(r, &inner, false, "\"based_on\" must name a profile");
            profile->count = base->count;
            memcpy(profile->tiers, base->tiers, sizeof profile->tiers);
        } else if (!is_comment(key)) {
            ok = unknown_key(r, &inner, "a profile");
        }
        if (!ok) return false;
    }
    return true;
}

static bool read_profiles(const reader *r, const json_path *path, json_t *object, tiers_table *table)
{
    static const char *const names[TIERS_PROFILES] = {"seed", "measured"};
    if (!want_object(r, path, object)) return false;
    for (int i = 0; i < TIERS_PROFILES; i++)
        snprintf(table->profiles[i].name, sizeof table->profiles[i].name, "%s", names[i]);
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        json_path inner = json_path_with(*path, name);
        int found = -1;
        for (int i = 0; i < TIERS_PROFILES; i++)
            if (strcmp(names[i], name) == 0) found = i;
        if (is_comment(name)) continue;
        if (found < 0) return complain(r, &inner, true, "there is no profile \"%.40s\": choose seed or measured", name);
        if (!read_profile(r, &inner, value, table, &table->profiles[found])) return false;
    }
    return true;
}

/* ---- the whole file ---- */

static bool read_cpu(const reader *r, const json_path *path, json_t *object, tiers_table *table)
{
    static const char *const memories[] = {"available", "total"};
    if (!want_object(r, path, object)) return false;
    unsigned seen = 1u << TIERS_KEY_START | 1u << TIERS_KEY_TOLERANCE; /* which it has not */
    const char *key;
    json_t *value;
    snprintf(table->cpu.id, sizeof table->cpu.id, "cpu");
    json_object_foreach(object, key, value)
    {
        json_path inner = json_path_with(*path, key);
        const struct tier_key *of_tier = find_tier_key(key);
        bool ok = true;
        if (strcmp(key, "memory") == 0) {
            int word = 0;
            ok = read_word(r, &inner, value, memories, 2, &word);
            table->cpu_uses_total = word == 1;
            table->cpu_memory_place = place_of(r, &inner, false);
        } else if (of_tier && of_tier->key != TIERS_KEY_START && of_tier->key != TIERS_KEY_TOLERANCE) {
            ok = read_tier_value(r, &inner, value, of_tier, &table->cpu);
            table->cpu.places[of_tier->key] = place_of(r, &inner, false);
            seen |= 1u << of_tier->key;
        } else if (!is_comment(key)) {
            ok = unknown_key(r, &inner, "\"cpu\"");
        }
        if (!ok) return false;
    }
    return r->name || seen == (1u << TIERS_KEY_COUNT) - 1 || complain(r, path, false, "\"cpu\" is not complete");
}

static bool read_key(const reader *r, const char *key, json_t *value, tiers_table *table)
{
    static const char *const profiles[TIERS_PROFILES] = {"seed", "measured"};
    json_path path = json_path_with((json_path){.count = 0}, key);
    int number = 0;
    if (strcmp(key, "format") == 0) return read_integer(r, &path, value, 1, 1, &number);
    if (strcmp(key, "cpu") == 0) return read_cpu(r, &path, value, table);
    if (strcmp(key, "profiles") == 0) return read_profiles(r, &path, value, table);
    if (is_comment(key)) return true;
    if (strcmp(key, "default_profile") != 0) return unknown_key(r, &path, "a tier file");
    if (!read_word(r, &path, value, profiles, TIERS_PROFILES, &number)) return false;
    snprintf(table->default_profile, sizeof table->default_profile, "%s", profiles[number]);
    table->default_profile_place = place_of(r, &path, false);
    return true;
}

/* ---- what values must agree on ---- */

/* Complains about two values that contradict each other, at the one that came from the file. */
static bool contradiction(const reader *r, const tier *a, const tier *b, tiers_key key, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static bool contradiction(const reader *r, const tier *a, const tier *b, tiers_key key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tiers_place place = a->places[key].line ? a->places[key] : b->places[key];
    complain_at(r, place, format, arguments);
    va_end(arguments);
    return false;
}

static bool check_language_models(const reader *r, const tier *t)
{
    tiers_key key = t->places[TIERS_KEY_LM_MODEL].line ? TIERS_KEY_LM_MODEL : TIERS_KEY_LM_MODELS;
    if (t->lm_model != TIERS_LM_NONE && !(t->lm_models & 1u << t->lm_model))
        return contradiction(r, t, t, key, "%s recommends the language model %s, which its \"lm_models\" does not list",
                             t->id, tiers_lm_name(t->lm_model));
    key = t->places[TIERS_KEY_INIT_LM].line ? TIERS_KEY_INIT_LM : key;
    if (t->init_lm && t->lm_model == TIERS_LM_NONE)
        return contradiction(r, t, t, key, "%s starts a language model but recommends none in \"lm_model\"", t->id);
    key = t->places[TIERS_KEY_LM_SHARE].line ? TIERS_KEY_LM_SHARE : TIERS_KEY_LM_MODELS;
    for (tiers_lm lm = 0; lm < TIERS_LM_COUNT && !t->lm_unlimited; lm++) {
        bool offered = (t->lm_models & 1u << lm) != 0, has_share = t->lm_share[lm] > 0;
        if (offered != has_share)
            return contradiction(r, t, t, key, "%s %s the language model %s %s", t->id,
                                 offered ? "offers" : "does not offer", lm_words[lm],
                                 offered ? "without a share of memory in \"lm_share_gib\""
                                         : "that has a share in \"lm_share_gib\"");
    }
    return true;
}

/* The language model takes memory, so that no limit can be higher with it than without. */
static bool check_limits(const reader *r, const tier *t)
{
    tiers_key key =
        t->places[TIERS_KEY_DURATION_WITH_LM].line ? TIERS_KEY_DURATION_WITH_LM : TIERS_KEY_DURATION_WITHOUT_LM;
    if (t->max_duration[1] > t->max_duration[0])
        return contradiction(r, t, t, key, "%s allows %d s with the language model, but only %d s without it", t->id,
                             t->max_duration[1], t->max_duration[0]);
    key = t->places[TIERS_KEY_BATCH_WITH_LM].line ? TIERS_KEY_BATCH_WITH_LM : TIERS_KEY_BATCH_WITHOUT_LM;
    if (t->max_batch[1] > t->max_batch[0])
        return contradiction(r, t, t, key, "%s allows a batch of %d with the language model, but only %d without it",
                             t->id, t->max_batch[1], t->max_batch[0]);
    return true;
}

/* `below` is the tier with less memory. */
static bool check_order(const reader *r, const tier *below, const tier *t)
{
    if (!(t->start > below->start))
        return contradiction(r, t, below, TIERS_KEY_START, "%s overlaps %s: it begins at %g GiB, which is not above %g",
                             t->id, below->id, t->start, below->start);
    if (!(t->start - t->tolerance > below->start))
        return contradiction(r, t, t, t->places[TIERS_KEY_TOLERANCE].line ? TIERS_KEY_TOLERANCE : TIERS_KEY_START,
                             "%s with its tolerance of %g GiB reaches below the start of %s", t->id, t->tolerance,
                             below->id);
    for (int with_lm = 0; with_lm < 2; with_lm++) {
        /* where no language model is offered its limits hold for overrides only, and say nothing about the next tier */
        if (with_lm && (below->lm_models == 0 || t->lm_models == 0)) continue;
        if (t->max_duration[with_lm] < below->max_duration[with_lm])
            return contradiction(r, t, below, with_lm ? TIERS_KEY_DURATION_WITH_LM : TIERS_KEY_DURATION_WITHOUT_LM,
                                 "limits may not fall as memory grows: %s allows %d s %s the language model, %s only "
                                 "%d s; raise that one, too",
                                 below->id, below->max_duration[with_lm], with_lm ? "with" : "without", t->id,
                                 t->max_duration[with_lm]);
        if (t->max_batch[with_lm] < below->max_batch[with_lm])
            return contradiction(
                r, t, below, with_lm ? TIERS_KEY_BATCH_WITH_LM : TIERS_KEY_BATCH_WITHOUT_LM,
                "limits may not fall as memory grows: %s allows a batch of %d %s the language model, %s only %d; raise "
                "that one, too",
                below->id, below->max_batch[with_lm], with_lm ? "with" : "without", t->id, t->max_batch[with_lm]);
    }
    return true;
}

static bool check_profile(const reader *r, const tiers_profile *profile)
{
    const tier *first = &profile->tiers[0];
    if (first->start != 0)
        return contradiction(r, first, first, TIERS_KEY_START, "there is a gap: no tier begins at 0 GiB, %s at %g",
                             first->id, first->start);
    for (int i = 0; i < profile->count; i++) {
        if (!check_language_models(r, &profile->tiers[i]) || !check_limits(r, &profile->tiers[i])) return false;
        if (i > 0 && !check_order(r, &profile->tiers[i - 1], &profile->tiers[i])) return false;
    }
    return true;
}

bool tiers_read(tiers_table *table, const char *text, size_t n, const char *name, ace_error *error)
{
    enum { DEPTH = 8 };
    reader r = {text, n, name, error};
    json_t *root = json_parse(text, n, DEPTH, name ? name : "the built-in tier table", error);
    json_path top = {.count = 0};
    bool ok = root && want_object(&r, &top, root);
    const char *key;
    json_t *value;
    if (ok) json_object_foreach(root, key, value) ok = ok && read_key(&r, key, value, table);
    ok = ok && check_language_models(&r, &table->cpu) && check_limits(&r, &table->cpu);
    for (int i = 0; i < TIERS_PROFILES && ok; i++) ok = check_profile(&r, &table->profiles[i]);
    json_decref(root);
    return ok;
}
