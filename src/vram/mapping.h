/* mapping.h - which device computes what: --device and --gpu-mapping, as the official program writes them. */
#ifndef ACE_VRAM_MAPPING_H
#define ACE_VRAM_MAPPING_H

#include "vram/detect.h"

/* ---- --device ---- */

typedef enum device_word { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA, DEVICE_MPS, DEVICE_XPU } device_word;

typedef struct device_wish {
    device_word word;
    int index; /* -1: none was given */
} device_wish;

/* "auto", "cpu", "cuda", "cuda:1", "mps", "xpu", "xpu:0"; NULL and "" are auto. Else ACE_ERROR_USAGE. */
bool device_parse(const char *text, device_wish *wish, ace_error *error);

/* The index into machine->devices of what `wish` names. Auto is the usable NVIDIA card with most free memory (the first
 * of equals), else the CPU. A device that is not there or cannot be used is ACE_ERROR_DEVICE and says why. */
bool device_choose(const detect_machine *machine, device_wish wish, int *index, ace_error *error);

/* ---- --gpu-mapping ---- */

typedef enum mapping_part { MAPPING_DIT, MAPPING_VAE, MAPPING_TEXT_ENCODER, MAPPING_LM, MAPPING_PARTS } mapping_part;

const char *mapping_part_name(mapping_part part); /* "text_encoder" */

typedef enum mapping_form { MAPPING_AUTO, MAPPING_SINGLE, MAPPING_EXPLICIT } mapping_form;

typedef struct gpu_mapping {
    mapping_form form;
    int card[MAPPING_PARTS]; /* number of the card of each part; not set for MAPPING_AUTO */
} gpu_mapping;

enum { MAPPING_CARDS = 256 };

/* "auto", "single:1", "dit:0,vae:0,text_encoder:0,lm:1": `dit` is required, parts that are not named follow it; unknown
 * and repeated names are errors. NULL and "" are auto. Else ACE_ERROR_USAGE. */
bool mapping_parse(const char *text, gpu_mapping *mapping, ace_error *error);

/* The index into machine->devices for each part. Auto: diffusion transformer, VAE and text encoder on the usable card
 * with most free memory, the language model on the next; with one card all on it, with none all on the CPU. A card that
 * is not there or cannot be used is ACE_ERROR_DEVICE. */
bool mapping_resolve(const gpu_mapping *mapping, const detect_machine *machine, int devices[MAPPING_PARTS],
                     ace_error *error);

#endif
