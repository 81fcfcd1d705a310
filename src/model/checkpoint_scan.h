/* checkpoint_scan.h - walks directories and lists the models that their files hold. */
#ifndef ACE_MODEL_CHECKPOINT_SCAN_H
#define ACE_MODEL_CHECKPOINT_SCAN_H

#include "base/text.h"
#include "model/checkpoint_names.h"

typedef struct found_model {
    found_kind kind;
    ace_tensors *tensors; /* owned by the scan, and shared by the models of one file */
    char prefix[NAMES_PREFIX_SIZE];
    char *path;      /* the weights file, or the index of its shards */
    char *directory; /* where it lies */
    bool diffusers;  /* the transformer directory of a diffusers model */
} found_model;

typedef struct checkpoint_scan {
    ace_tensors **sets; /* NULL where a set was handed over */
    size_t set_count;
    found_model *models;
    size_t count;
    char **silences; /* paths of silence_latent.pt files */
    size_t silence_count;
    size_t visited;       /* directory entries looked at */
    bool tolerant;        /* files that cannot be read are noted instead of failing the scan */
    ace_error unreadable; /* the first of them */
} checkpoint_scan;

/* Adds what a file, or a directory and `depth` levels below it, holds. A weights file that cannot be read fails the
 * scan, unless it is tolerant: another model must not be chosen silently in its place. */
bool scan_path(checkpoint_scan *scan, const char *path, int depth, ace_error *error);

void scan_free(checkpoint_scan *scan);

/* Number of models of a kind; *first, if any, is the first in the order of paths. */
size_t scan_count(const checkpoint_scan *scan, found_kind kind, const found_model **first);

/* "DiT 'a/b', VAE 'c'" for messages: the models of one kind, or of SCAN_ANY_KIND. */
enum { SCAN_ANY_KIND = -1 };
void scan_describe(const checkpoint_scan *scan, int only_kind, ace_text *text);

/* "DiT", "text encoder", ... */
const char *found_kind_name(found_kind kind);

#endif
