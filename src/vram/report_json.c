/* report_json.c - the same report for programs: the server's status, the page, scripts. */
#include "vram/report_parts.h"

#include "base/error.h"

#include <jansson.h>
#include <string.h>

/* jansson's setters take NULL values as failures, so one flag at the end is enough. */
typedef struct builder {
    bool failed;
} builder;

static void put(builder *b, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) b->failed = true;
}

static void put_text(builder *b, json_t *object, const char *key, const char *text)
{
    put(b, object, key, text && *text ? json_string(text) : json_null());
}

/* GiB with three decimals, so that the text stays short. */
static json_t *gib(double value)
{
    return json_real((double)(long long)(value * 1000 + 0.5) / 1000);
}

static void put_bytes(builder *b, json_t *object, const char *key, bool known, uint64_t bytes)
{
    put(b, object, key, known ? json_integer((json_int_t)bytes) : json_null());
}

/* ---- devices ---- */

static const char *problem_word(detect_problem problem)
{
    static const char *const words[DETECT_PROBLEM_COUNT] = {NULL,
                                                            "no_library",
                                                            "bad_library",
                                                            "init_failed",
                                                            "version_mismatch",
                                                            "no_permission",
                                                            "no_device_file",
                                                            "no_module",
                                                            "other_driver",
                                                            "not_listed",
                                                            "lost",
                                                            "implausible",
                                                            "mig",
                                                            "hidden",
                                                            "report_only"};
    return words[problem];
}

static json_t *users(builder *b, const detect_device *d)
{
    json_t *list = json_array();
    for (int i = 0; i < d->user_count; i++) {
        json_t *user = json_object();
        put(b, user, "pid", json_integer(d->users[i].pid));
        put_text(b, user, "name", d->users[i].name);
        put_bytes(b, user, "bytes", d->users[i].bytes > 0, d->users[i].bytes);
        if (json_array_append_new(list, user) != 0) b->failed = true;
    }
    return list;
}

static json_t *device(builder *b, const detect_device *d, texts_language language)
{
    static const char *const kinds[] = {"cpu", "nvidia", "amd", "intel"};
    json_t *object = json_object();
    put_text(b, object, "id", d->id);
    put_text(b, object, "kind", kinds[d->kind]);
    put_text(b, object, "name", d->name);
    put_text(b, object, "pci", d->pci);
    put_text(b, object, "uuid", d->uuid);
    put_text(b, object, "driver", d->driver);
    put_bytes(b, object, "total_bytes", d->total_known, d->total);
    put_bytes(b, object, "free_bytes", d->free_known, d->free);
    put_bytes(b, object, "used_bytes", d->free_known, d->total - d->free);
    put(b, object, "shared_memory", json_boolean(d->shared));
    if (d->capability[0]) put(b, object, "capability", json_pack("[ii]", d->capability[0], d->capability[1]));
    if (d->kind == DETECT_CPU) {
        put(b, object, "threads", json_integer(d->threads));
        put(b, object, "limited", json_boolean(d->limited));
    } else {
        put(b, object, "users", users(b, d));
        put(b, object, "more_users", json_boolean(d->more_users));
    }
    ace_text sentence = {0};
    if (d->problem != DETECT_FINE) report_problem(d, language, &sentence);
    put_text(b, object, "problem", problem_word(d->problem));
    put_text(b, object, "problem_text", sentence.data);
    b->failed = b->failed || sentence.failed;
    ace_text_free(&sentence);
    return object;
}

/* ---- limits ---- */

static json_t *allowed(builder *b, const tier *t, bool with_lm)
{
    json_t *object = json_object();
    put(b, object, "max_duration", json_integer(t->max_duration[with_lm]));
    put(b, object, "max_batch", json_integer(t->max_batch[with_lm]));
    return object;
}

static json_t *limits(builder *b, const limits_basis *basis)
{
    static const char *const sources[] = {"card", "simulated", "cpu"};
    const tier *t = basis->tier;
    json_t *object = json_object();
    put(b, object, "memory_gib", gib(basis->gib));
    put_text(b, object, "source", sources[basis->source]);
    put_text(b, object, "tier", basis->source == LIMITS_CPU ? NULL : t->id);
    put(b, object, "with_lm", allowed(b, t, true));
    put(b, object, "without_lm", allowed(b, t, false));
    put(b, object, "lm_max_duration", json_integer(limits_lm_duration(basis)));
    return object;
}

static json_t *chosen(builder *b, json_t *value, const char *origin)
{
    json_t *object = json_object();
    put(b, object, "value", value);
    put_text(b, object, "origin", origin);
    return object;
}

static json_t *settings_object(builder *b, const ace_machine *machine, const tier *t)
{
    const settings *s = &machine->settings;
    json_t *object = json_object(), *models = json_array(), *shares = t->lm_unlimited ? json_null() : json_object();
    for (tiers_lm lm = 0; lm < TIERS_LM_COUNT; lm++) {
        if (!(t->lm_models & 1u << lm)) continue;
        if (json_array_append_new(models, json_string(tiers_lm_name(lm))) != 0) b->failed = true;
        if (!t->lm_unlimited) put(b, shares, tiers_lm_name(lm), json_real(t->lm_share[lm]));
    }
    json_t *model = s->lm_model == TIERS_LM_NONE ? json_null() : json_string(tiers_lm_name(s->lm_model));
    put(b, object, "lm_models", models);
    put(b, object, "lm_share_gib", shares);
    put(b, object, "init_lm", chosen(b, json_boolean(s->init_lm), settings_origin_name(s->init_lm_origin)));
    put(b, object, "lm_model", chosen(b, model, settings_origin_name(s->lm_model_origin)));
    for (tiers_option o = 0; o < TIERS_OPTION_COUNT; o++) {
        const char *origin = t->places[TIERS_KEY_OPTIONS + o].line ? "file" : "tier";
        put(b, object, tiers_option_name(o), chosen(b, json_string(tiers_choice_name(t->options[o])), origin));
    }
    return object;
}

static json_t *simulated(builder *b, const simulation *s)
{
    if (!s->active) return json_null();
    json_t *object = json_object();
    put_text(b, object, "variable", s->variable);
    put_text(b, object, "value", s->value);
    put(b, object, "gib", gib(s->gib));
    return object;
}

/* As the official program's status names it. */
static json_t *device_map(builder *b, const ace_machine *machine)
{
    json_t *object = json_object();
    ace_text summary = {0};
    bool several = false;
    for (mapping_part part = 0; part < MAPPING_PARTS; part++) {
        const detect_device *d = &machine->detected.devices[machine->parts[part]];
        put_text(b, object, mapping_part_name(part), d->id);
        if (d->kind == DETECT_CPU)
            ace_text_format(&summary, "%s%s:cpu", part ? ", " : "", mapping_part_name(part));
        else
            ace_text_format(&summary, "%s%s:%d", part ? ", " : "", mapping_part_name(part), d->number);
        several = several || machine->parts[part] != machine->parts[0];
    }
    put_text(b, object, "summary", summary.data);
    put(b, object, "multi_device", json_boolean(several));
    b->failed = b->failed || summary.failed;
    ace_text_free(&summary);
    return object;
}

char *report_json(const ace_machine *machine, texts_language language, ace_error *error)
{
    builder b = {false};
    ace_text note = {0};
    json_t *root = json_object(), *devices = json_array(), *warnings = json_array();
    const limits_basis *shown = machine->has_card ? &machine->card : &machine->basis;
    for (int i = 0; i < machine->detected.count; i++)
        if (json_array_append_new(devices, device(&b, &machine->detected.devices[i], language)) != 0) b.failed = true;
    for (int i = 0; i < machine->warning_count; i++)
        if (json_array_append_new(warnings, json_string(machine->warnings[i])) != 0) b.failed = true;
    put(&b, root, "devices", devices);
    put_text(&b, root, "driver_problem", problem_word(machine->detected.driver_problem));
    put_text(&b, root, "device", machine->detected.devices[machine->device].id);
    report_computing(machine, language, &note);
    put_text(&b, root, "computes_on", machine->computes ? machine->detected.devices[machine->device].id : "cpu");
    put_text(&b, root, "note", note.data);
    put_text(&b, root, "card_unused", machine->unused[0] ? machine->unused : NULL);
    put_text(&b, root, "plugin", machine->plugin.gpu ? machine->plugin.path : NULL);
    b.failed = b.failed || note.failed;
    ace_text_free(&note);
    put(&b, root, "device_map", device_map(&b, machine));
    put(&b, root, "simulated", simulated(&b, &machine->simulated));
    put_text(&b, root, "profile", machine->profile->name);
    put(&b, root, "profile_measured", json_boolean(machine->profile->measured));
    put_text(&b, root, "tiers_file", machine->table->file);
    put(&b, root, "limits", limits(&b, &machine->basis));
    put(&b, root, "card_limits", machine->has_card ? limits(&b, &machine->card) : json_null());
    put(&b, root, "tier_chosen_by_hand", json_boolean(machine->chosen_tier));
    put(&b, root, "settings", settings_object(&b, machine, shown->tier));
    put_text(&b, root, "advice", texts_get(language, TEXT_ADVICE + shown->tier->advice));
    put(&b, root, "warnings", warnings);
    char *text = b.failed ? NULL : json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (!text) ace_fail_memory(error, "the report as JSON", 1 << 14);
    return text;
}
