/* checkpoint.h - finding the parts of an ACE-Step 1.5 checkpoint by looking at what is there, and naming their tensors
 * the official way whatever layout they come in: official directories, GGUF, ComfyUI single files, diffusers. */
#ifndef ACE_MODEL_CHECKPOINT_H
#define ACE_MODEL_CHECKPOINT_H

#include "formats/tensors.h"
#include "model/config.h"

/* A checkpoint has the parts before ACE_PART_LM; the planner, a 5 Hz language model (lm.md 1), it may lack. */
typedef enum ace_part_kind {
    ACE_PART_DIT,
    ACE_PART_TEXT_ENCODER,
    ACE_PART_VAE,
    ACE_PART_LM,
    ACE_PART_COUNT
} ace_part_kind;

/* The tensors of one part under their official names (dit.md 1.6, vae-audio.md 2). */
typedef struct ace_part ace_part;

/* NULL when absent, or when the part itself is NULL. */
const ace_tensor *part_find(const ace_part *part, const char *official_name);

/* Whether any of the tensors whose names begin with `prefix` is stored in GGUF blocks. */
bool part_has_blocks(const ace_part *part, const char *prefix);

/* Where the part was found, for messages. */
const char *part_path(const ace_part *part);

typedef struct ace_checkpoint_paths {
    const char *model; /* directory or file to search */
    const char *dit;   /* the following override the search; NULL: search. File or directory. */
    const char *text_encoder;
    const char *vae;
    const char *lm;
} ace_checkpoint_paths;

struct ace_tokenizer;

typedef struct ace_checkpoint {
    ace_part *parts[ACE_PART_COUNT];
    dit_config dit;
    qwen3_config text_encoder;
    vae_config vae;
    const ace_tensor *silence; /* channels x frames or frames x channels, as its shape tells: see checkpoint_silence */
    char *tokenizer_path;      /* tokenizer.json; NULL when the text encoder's GGUF carries the tokenizer */
    char *dit_name;            /* directory or file name, for display */
    bool synthetic;            /* real dimensions, random values: never music */
    ace_tensors **files;       /* what the parts and the silence point into, each once */
    size_t file_count;
    const ace_tensors *tokenizer_tensors; /* the GGUF that carries the tokenizer, or NULL */

    /* The planner, parts[ACE_PART_LM]; without one only the last two mean anything. */
    bool has_lm;
    qwen3_config lm;         /* with tied_head false the head is "lm_head.weight", else the embedding */
    char *lm_name;           /* directory or file name, for display */
    char *lm_directory;      /* where its tokenizer may lie; NULL when synthetic */
    ace_tensors *lm_tensors; /* what it points into; among `files` only when another part lies in the same file */
    char **lm_paths;         /* every planner that was found, in the order of paths, the chosen one among them */
    size_t lm_path_count;
    ace_error lm_problem; /* why there is none: see checkpoint_need_lm */
} ace_checkpoint;

/* Searches, opens and checks everything (configs against each other and against tensor shapes). NULL with an error that
 * lists what was found and what is missing. When several DiTs are there the error names them and asks for --dit.
 *
 * A planner is looked for in the same places, and a song without one is no error. Of several the one of 1.7B's
 * dimensions is taken, the official default (lm.md 1.1); when that does not decide, or the planner found cannot be
 * used, the checkpoint opens without one and lm_problem tells why. A planner that was named must be usable. */
ace_checkpoint *checkpoint_open(const ace_checkpoint_paths *paths, ace_error *error);

/* Real dimensions with random weights: "2b" or "xl", turbo, and with a planner "2b+0.6B", "xl+1.7B", "2b+4B" and so on.
 * Needs no files. */
ace_checkpoint *checkpoint_open_synthetic(const char *variant, ace_error *error);

void checkpoint_close(ace_checkpoint *checkpoint);

/* Frames of the silence latent in the file (15000), and a copy of frames [first, first + count) as rows of
 * latent_channels float32, repeated from its start beyond its end (dit.md 7.2). */
bool checkpoint_silence(const ace_checkpoint *checkpoint, int64_t first, int64_t count, float *frames,
                        ace_error *error);

/* The tokenizer of the text encoder, from tokenizer.json or GGUF metadata; the caller closes it. */
struct ace_tokenizer *checkpoint_tokenizer(const ace_checkpoint *checkpoint, ace_error *error);

/* Identifies the weights of the parts that make a song and the silence latent, wherever the files lie: 32 hex digits.
 * A planner beside them does not change it. Reads every byte of them; false when *stop (NULL: never) became true
 * meanwhile. */
bool checkpoint_hash(const ace_checkpoint *checkpoint, char hex[33], const atomic_bool *stop);

/* ---- the planner ------------------------------------------------------------------------------------------------ */

/* True when there is a planner; else the error says why not and what to do. */
bool checkpoint_need_lm(const ace_checkpoint *checkpoint, ace_error *error);

/* The planner's tokenizer, with its audio codes: at least 64,000, the ids within its vocabulary (lm.md 2.6). From the
 * tokenizer.json beside it, its GGUF metadata, or, as both have the same text vocabulary, the text encoder's. The
 * caller closes it. */
struct ace_tokenizer *checkpoint_lm_tokenizer(const ace_checkpoint *checkpoint, ace_error *error);

/* As checkpoint_hash(), of the file or shards that hold the planner; false also when there is none. */
bool checkpoint_lm_hash(const ace_checkpoint *checkpoint, char hex[33], const atomic_bool *stop);

#endif
