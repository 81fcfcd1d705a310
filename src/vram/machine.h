/* machine.h - the machine as one object: its devices, the tier table, the simulation, and what limits follow from them.
 * The public functions ace_machine_* are implemented here. No model is opened. */
#ifndef ACE_VRAM_MACHINE_H
#define ACE_VRAM_MACHINE_H

#include "base/text.h"
#include "device/cuda/plugin.h"
#include "vram/limits.h"
#include "vram/mapping.h"
#include "vram/settings.h"
#include "vram/simulate.h"
#include "vram/texts.h"

enum { MACHINE_WARNINGS = 8, MACHINE_WARNING = 1200 };

struct ace_machine {
    detect_machine detected;
    tiers_table *table;
    const tiers_profile *profile;
    simulation simulated;
    device_word wish;                     /* what was asked for by name; DEVICE_CUDA also when a mapping names cards */
    int device;                           /* index of the device that was asked for, or that is best */
    int parts[MAPPING_PARTS];             /* index of the device of each part, by --gpu-mapping */
    cuda_plugin plugin;                   /* see machine_find_cards() */
    char plugin_problem[MACHINE_WARNING]; /* why there is none; "" */
    bool computes;                        /* songs are computed on the chosen card */
    char unused[MACHINE_WARNING]; /* a sentence: which card is not used, and why; "" when there is nothing to say */
    bool chosen_tier;             /* by hand; the memory stays what it is */
    bool has_card;                /* a usable card is chosen, no simulation: `card` is what its tier allows */
    limits_basis card;
    limits_basis basis; /* what holds for songs made now */
    settings settings;  /* to show: of `card` if there is one, else of `basis` */
    int warning_count;
    char warnings[MACHINE_WARNINGS][MACHINE_WARNING];
    const char *(*variable)(const char *name);
};

/* ace_machine_open() on a machine that stands at other places. */
ace_machine *machine_open_at(const ace_machine_options *options, const detect_places *places, ace_error *error);

/* What limits_request() measures requests against: the first of the two calls that an engine makes. With the same basis
 * settings_decide() says whether the language model is started. */
const limits_basis *machine_limits_basis(const ace_machine *machine);

/* In machine_card.c: looks for the plug-in where `device`, the environment or a card asks for it, and lists the cards
 * that only it shows; then, once the device is chosen, says whether that card computes. */
void machine_find_cards(ace_machine *machine, const detect_places *places, const char *device);
void machine_consult_plugin(ace_machine *machine);

/* The parts of ace_machine_report(), in report*.c. They append to `out`. */
void report_text(const ace_machine *machine, texts_language language, ace_text *out);
void report_origins(const ace_machine *machine, ace_text *out);
void report_tables(const ace_machine *machine, texts_language language, ace_text *out);
char *report_json(const ace_machine *machine, texts_language language, ace_error *error);

#endif
