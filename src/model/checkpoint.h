/* checkpoint.h - finding the parts of an ACE-Step 1.5 checkpoint by looking at what is there, and naming their tensors
 * the official way whatever layout they come in: official directories, GGUF, ComfyUI single files, diffusers. */
#ifndef ACE_MODEL_CHECKPOINT_H
#define ACE_MODEL_CHECKPOINT_H

#include "formats/tensors.h"
#include "model/config.h"

typedef enum ace_part_kind { ACE_PART_DIT, ACE_PART_TEXT_ENCODER, ACE_PART_VAE, ACE_PART_COUNT } ace_part_kind;

/* The tensors of one part under their official names (dit.md 1.6, vae-audio.md 2). */
typedef struct ace_part ace_part;

/* NULL when absent. */
const ace_tensor *part_find(const ace_part *part, const char *official_name);

/* Where the part was found, for messages. */
const char *part_path(const ace_part *part);

typedef struct ace_checkpoint_paths {
    const char *model; /* directory or file to search */
    const char *dit;   /* the following override the search; NULL: search. File or directory. */
    const char *text_encoder;
    const char *vae;
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
} ace_checkpoint;

/* Searches, opens and checks everything (configs against each other and against tensor shapes). NULL with an error that
 * lists what was found and what is missing. When several DiTs are there the error names them and asks for --dit. */
ace_checkpoint *checkpoint_open(const ace_checkpoint_paths *paths, ace_error *error);

/* Real dimensions with random weights: "2b" or "xl", turbo. Needs no files. */
ace_checkpoint *checkpoint_open_synthetic(const char *variant, ace_error *error);

void checkpoint_close(ace_checkpoint *checkpoint);

/* Frames of the silence latent in the file (15000), and a copy of frames [first, first + count) as rows of
 * latent_channels float32, repeated from its start beyond its end (dit.md 7.2). */
bool checkpoint_silence(const ace_checkpoint *checkpoint, int64_t first, int64_t count, float *frames,
                        ace_error *error);

/* The tokenizer of the text encoder, from tokenizer.json or GGUF metadata; the caller closes it. */
struct ace_tokenizer *checkpoint_tokenizer(const ace_checkpoint *checkpoint, ace_error *error);

/* Identifies the weights of all parts and the silence latent, wherever the files lie: 32 hex digits. Reads every byte
 * of them; false when *stop (NULL: never) became true meanwhile. */
bool checkpoint_hash(const ace_checkpoint *checkpoint, char hex[33], const atomic_bool *stop);

#endif
