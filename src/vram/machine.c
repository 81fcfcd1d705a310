#include "vram/machine.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void warn(ace_machine *machine, const char *sentence)
{
    if (machine->warning_count < MACHINE_WARNINGS)
        snprintf(machine->warnings[machine->warning_count++], MACHINE_WARNING, "%s", sentence);
}

/* ---- the table ---- */

/* The user's own file where the option and the environment name none: $XDG_CONFIG_HOME/acestep/tiers.json. NULL if
 * there is none; the caller frees. */
static char *usual_file(const detect_places *places)
{
    const char *config = places->variable("XDG_CONFIG_HOME"), *home = places->variable("HOME");
    ace_text path = {0};
    if (config && *config)
        ace_text_format(&path, "%s/acestep/tiers.json", config);
    else if (home && *home)
        ace_text_format(&path, "%s/.config/acestep/tiers.json", home);
    if (path.failed || !path.data || !ace_path_exists(path.data)) {
        ace_text_free(&path);
        return NULL;
    }
    return path.data;
}

/* A file that is rejected is told, and the built-in table holds. */
static bool load_table(ace_machine *machine, const ace_machine_options *options, const detect_places *places,
                       ace_error *error)
{
    const char *named = options->tiers ? options->tiers : places->variable("ACESTEP_TIERS");
    char *usual = named && *named ? NULL : usual_file(places);
    const char *path = usual ? usual : named && *named ? named : NULL;
    ace_error problem = {0};
    if (path) machine->table = tiers_load(path, &problem);
    free(usual);
    bool rejected = path && !machine->table;
    if (rejected && (options->strict || problem.status == ACE_ERROR_MEMORY))
        return ace_fail(error, problem.status, "%s", problem.message);
    if (rejected) {
        char sentence[MACHINE_WARNING];
        snprintf(sentence, sizeof sentence, "the tier file is rejected and the built-in table is used: %s",
                 problem.message);
        warn(machine, sentence);
    }
    if (!machine->table) machine->table = tiers_built_in(error);
    return machine->table != NULL;
}

/* ---- what follows ---- */

/* The tier of a card, or the one chosen by hand. */
static bool basis_of(ace_machine *machine, const char *tier_id, double gib, limits_source source, limits_basis *basis,
                     ace_error *error)
{
    basis->gib = gib;
    basis->source = source;
    if (tier_id) {
        basis->tier = tiers_find(machine->profile, tier_id);
        machine->chosen_tier = true;
        return basis->tier || ace_fail(error, ACE_ERROR_USAGE,
                                       "there is no tier '%.40s': choose tier1 to tier6 or unlimited", tier_id);
    }
    basis->tier =
        source == LIMITS_CPU ? &machine->table->cpu : tiers_select(machine->profile, gib, source == LIMITS_SIMULATED);
    return basis->tier || ace_fail(error, ACE_ERROR_INTERNAL, "no tier for %g GiB", gib);
}

/* A language model is named by a path, whose size is known where the name says it. */
static settings_wish wish_of(const char *lm)
{
    settings_wish wish = {0};
    if (!lm) return wish;
    wish.init_lm = strcmp(lm, "none") == 0 ? "false" : "true";
    if (tiers_lm_find(lm) != TIERS_LM_NONE) wish.lm_model = lm;
    return wish;
}

static bool conclude(ace_machine *machine, const ace_machine_options *options, ace_error *error)
{
    const detect_device *cpu = detect_cpu(&machine->detected);
    const detect_device *card = &machine->detected.devices[machine->device];
    uint64_t host = !cpu->total_known ? 0 : machine->table->cpu_uses_total || !cpu->free_known ? cpu->total : cpu->free;
    bool ok;
    machine->has_card = card->kind != DETECT_CPU && !machine->simulated.active;
    if (machine->has_card &&
        !basis_of(machine, options->tier, detect_gib(card->total), LIMITS_CARD, &machine->card, error))
        return false;
    /* what holds is what a person asked to pretend, or that of the device that computes */
    if (machine->simulated.active)
        ok = basis_of(machine, options->tier, machine->simulated.gib, LIMITS_SIMULATED, &machine->basis, error);
    else if (machine->has_card && machine->computes)
        ok = basis_of(machine, options->tier, detect_gib(card->total), LIMITS_CARD, &machine->basis, error);
    else
        ok = basis_of(machine, machine->has_card ? NULL : options->tier, detect_gib(host), LIMITS_CPU, &machine->basis,
                      error);
    if (!ok) return false;
    const limits_basis *basis = machine->has_card ? &machine->card : &machine->basis;
    settings_wish wish = wish_of(options->lm);
    return settings_decide(basis, machine->variable, &wish, &machine->settings, error);
}

/* --device and --gpu-mapping, or the variables of the official program. */
static bool choose_devices(ace_machine *machine, const ace_machine_options *options, const detect_places *places,
                           ace_error *error)
{
    device_wish wish;
    gpu_mapping mapping;
    const char *device = options->device ? options->device : places->variable("ACESTEP_DEVICE");
    const char *parts = options->gpu_mapping ? options->gpu_mapping : places->variable("ACESTEP_GPU_MAPPING");
    bool ok = device_parse(device, &wish, error) && mapping_parse(parts, &mapping, error) &&
              device_choose(&machine->detected, wish, &machine->device, error);
    if (ok && mapping.form == MAPPING_AUTO && wish.word != DEVICE_AUTO)
        for (int i = 0; i < MAPPING_PARTS; i++) machine->parts[i] = machine->device;
    else
        ok = ok && mapping_resolve(&mapping, &machine->detected, machine->parts, error);
    machine->wish = mapping.form == MAPPING_AUTO ? wish.word : DEVICE_CUDA;
    /* the tier is that of the device which runs the diffusion transformer */
    if (ok && mapping.form != MAPPING_AUTO) machine->device = machine->parts[MAPPING_DIT];
    return ok;
}

static bool open_at(ace_machine *machine, const ace_machine_options *options, const detect_places *places,
                    ace_error *error)
{
    double gib;
    if (options->vram && !simulate_parse(options->vram, &gib))
        return ace_fail(error, ACE_ERROR_USAGE,
                        "the memory to simulate cannot be '%.40s': give a number of GB above 0, such as 8",
                        options->vram);
    if (!load_table(machine, options, places, error)) return false;
    const char *profile = options->profile ? options->profile : places->variable("ACESTEP_TIER_PROFILE");
    machine->profile = tiers_find_profile(machine->table, profile && *profile ? profile : NULL, error);
    if (!machine->profile) return false;
    detect_run(places, &machine->detected);
    machine->simulated = simulate_read(places->variable, options->vram);
    for (int i = 0; i < machine->simulated.count; i++) warn(machine, machine->simulated.warnings[i]);
    machine->variable = places->variable;
    machine_find_cards(machine, places, options->device ? options->device : places->variable("ACESTEP_DEVICE"));
    if (!choose_devices(machine, options, places, error)) {
        size_t used = error ? strlen(error->message) : 0;
        if (error && error->status == ACE_ERROR_DEVICE && machine->plugin_problem[0])
            snprintf(error->message + used, sizeof error->message - used, "; %s", machine->plugin_problem);
        return false;
    }
    machine_consult_plugin(machine);
    bool several = false;
    for (int i = 0; i < MAPPING_PARTS; i++) several = several || machine->parts[i] != machine->device;
    if (several && machine->computes && machine->wish == DEVICE_CUDA)
        warn(machine, "the GPU mapping names several cards, and this version computes a song on one: the DiT's");
    if (!conclude(machine, options, error)) return false;
    /* a card's tier advises nobody whose songs the CPU computes */
    if (machine->settings.warning[0] && (!machine->has_card || machine->computes))
        warn(machine, machine->settings.warning);
    return true;
}

ace_machine *machine_open_at(const ace_machine_options *options, const detect_places *places, ace_error *error)
{
    static const ace_machine_options none = {0};
    if (!options) options = &none;
    ace_machine *machine = ace_calloc(1, sizeof *machine, "the description of the machine", error);
    if (!machine) return NULL;
    if (!open_at(machine, options, places, error)) {
        ace_machine_close(machine);
        return NULL;
    }
    for (int i = 0; i < machine->warning_count && options->warning; i++)
        options->warning(options->user, machine->warnings[i]);
    return machine;
}

const limits_basis *machine_limits_basis(const ace_machine *machine)
{
    return &machine->basis;
}

/* ---- the public functions ---- */

ace_machine *ace_machine_open(const ace_machine_options *options, ace_error *error)
{
    detect_places places = detect_system_places();
    return machine_open_at(options, &places, error);
}

void ace_machine_close(ace_machine *machine)
{
    if (!machine) return;
    cuda_plugin_close(&machine->plugin);
    tiers_free(machine->table);
    free(machine);
}

char *ace_machine_report(const ace_machine *machine, ace_report kind, const char *language, ace_error *error)
{
    texts_language lang = texts_language_of(machine->variable);
    ace_text out = {0};
    if (language && !texts_find_language(language, &lang)) {
        ace_fail(error, ACE_ERROR_USAGE, "there is no language '%.20s': choose en, ko, ja or zh", language);
        return NULL;
    }
    switch (kind) {
    case ACE_REPORT_TEXT:
        report_text(machine, lang, &out);
        break;
    case ACE_REPORT_JSON:
        return report_json(machine, lang, error);
    case ACE_REPORT_TIERS:
        report_origins(machine, &out);
        break;
    case ACE_REPORT_TABLES:
        report_tables(machine, lang, &out);
        break;
    }
    return ace_text_take(&out, error);
}
