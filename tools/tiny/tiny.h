/* tiny.h - the parts of make-tiny-checkpoint: tensors whose values are a function of their name, and the writers that
 * put them into the files of an ACE-Step 1.5 checkpoint. */
#ifndef ACE_TOOLS_TINY_H
#define ACE_TOOLS_TINY_H

#include "base/dtype.h"
#include "base/text.h"

#include <acestep.h>

enum { TINY_MAX_RANK = 3 };

/* A tensor that exists only as a rule: element i is center + deviation * noise(name, i), rounded once to the type it
 * is stored in (values.c). */
typedef struct tiny_tensor {
    char name[96];
    int rank;
    int64_t shape[TINY_MAX_RANK]; /* PyTorch order */
    double deviation;             /* of the noise, whose distribution is bell-shaped and bounded by 3.5 */
    double center;
} tiny_tensor;

/* The tensors of one model. Zero-initialise; after a failed add `failed` is set and the writers report it. */
typedef struct tiny_model {
    tiny_tensor *tensors;
    size_t count, capacity;
    bool failed;
} tiny_model;

void tiny_model_free(tiny_model *model);

/* ---- tensors.c: the list, by what the tensors are ---- */

/* Any tensor. `shape` has `rank` numbers. The name is printf-like. */
void tiny_add(tiny_model *model, double deviation, double center, int rank, const int64_t *shape, const char *format,
              ...) __attribute__((format(printf, 6, 7)));

/* prefix + ".weight" [out, in] with deviation gain / sqrt(in), so that it keeps the size of what goes through it when
 * gain is 1; with_bias adds ".bias" [out]. */
void tiny_add_linear(tiny_model *model, const char *prefix, int64_t out, int64_t in, double gain, bool with_bias);

/* The weight of an RMSNorm, around 1. `name` is complete. */
void tiny_add_norm(tiny_model *model, const char *name, int64_t n);

/* The dimensions of one stack of Qwen3-style layers. */
typedef struct tiny_stack {
    int layers, hidden, intermediate, heads, kv_heads, head_dim;
} tiny_stack;

/* The eight tensors of an attention: q, k, v, o projections and the head norms of q and k. */
void tiny_add_attention(tiny_model *model, const char *prefix, const tiny_stack *stack);

/* gate_proj, up_proj, down_proj. */
void tiny_add_mlp(tiny_model *model, const char *prefix, const tiny_stack *stack);

/* prefix + "layers.N." + the eleven tensors of each of `layers` encoder layers, and prefix + "norm.weight". */
void tiny_add_encoder_stack(tiny_model *model, const char *prefix, const tiny_stack *stack, int layers);

/* Brings the tensors into the order of their names, as the official files have them. */
void tiny_model_sort(tiny_model *model);

/* ---- values.c ---- */

/* The values of a tensor in its stored type (ACE_F32 or ACE_BF16), little-endian; caller frees. */
uint8_t *tiny_values(const tiny_tensor *tensor, ace_dtype dtype, size_t *bytes, ace_error *error);

/* The noise behind them: a number in (-3.5, 3.5) with variance 1 that depends on name and index only. */
double tiny_noise(const char *name, uint64_t index);

/* Bytes that depend on the name only. */
void tiny_noise_bytes(const char *name, uint8_t *bytes, size_t count);

/* ---- blocks.c ---- */

/* The tensor in GGUF blocks: ACE_Q8_0, ACE_Q4_K, ACE_Q5_K or ACE_Q6_K, its rows a multiple of the block; caller frees.
 */
uint8_t *tiny_blocks(const tiny_tensor *tensor, ace_dtype dtype, size_t *bytes, ace_error *error);

/* ---- writers: each makes or replaces one whole file ---- */

bool tiny_write_text(const char *directory, const char *name, ace_text *text, ace_error *error);

/* One safetensors file. Every tensor's name is prefixed with `prefix` ("" for none). */
bool tiny_write_safetensors(const char *directory, const char *name, const tiny_model *model, const char *prefix,
                            ace_dtype dtype, ace_error *error);

/* model-0000k-of-0000n.safetensors of about equal size, and model.safetensors.index.json. */
bool tiny_write_shards(const char *directory, const tiny_model *model, int shards, ace_dtype dtype, ace_error *error);

/* The latent of silence: TINY_SILENCE_FRAMES frames of 64 channels, silence_latent.pt as torch.save() writes it,
 * [1, 64, frames]. */
enum { TINY_SILENCE_FRAMES = 1500, TINY_LATENT_CHANNELS = 64 };
float tiny_silence(int channel, int frame);
bool tiny_write_silence(const char *directory, ace_error *error);

/* ---- the models ---- */

typedef enum tiny_variant { TINY_TURBO, TINY_BASE, TINY_SFT, TINY_XL_TURBO, TINY_XL_BASE, TINY_XL_SFT } tiny_variant;
enum { TINY_VARIANTS = 6 };

typedef struct tiny_dit_shape {
    bool xl, turbo;
    const char *directory;     /* "acestep-v15-turbo" */
    const char *modeling_file; /* "modeling_acestep_v15_turbo" */
    const char *version;       /* model_version */
    tiny_stack dit, encoder;
} tiny_dit_shape;

tiny_dit_shape tiny_dit_shape_of(tiny_variant variant);

/* XL turbo with a DiT wide enough for blocks of 256 values. */
tiny_dit_shape tiny_dit_shape_for_blocks(void);
void tiny_dit_tensors(tiny_model *model, const tiny_dit_shape *shape);
void tiny_dit_config(ace_text *json, const tiny_dit_shape *shape);

/* Dimensions that 2B and XL share. */
enum {
    TINY_LYRIC_LAYERS = 4,
    TINY_TIMBRE_LAYERS = 4,
    TINY_POOLER_LAYERS = 2,
    TINY_IN_CHANNELS = 3 * TINY_LATENT_CHANNELS,
    TINY_PATCH = 2,
    TINY_WINDOW = 16
};

enum { TINY_TEXT_HIDDEN = 48 };
tiny_stack tiny_text_encoder_stack(void);
void tiny_text_encoder_tensors(tiny_model *model, int vocab_size);
void tiny_text_encoder_config(ace_text *json, int vocab_size);

/* The planner: a vocabulary of the text tokens and, behind them, TINY_AUDIO_CODES tokens <|audio_code_N|>. */
enum { TINY_AUDIO_CODES = 65535 };
tiny_stack tiny_planner_stack(void);
void tiny_planner_tensors(tiny_model *model, int vocab_size);
void tiny_planner_config(ace_text *json, int vocab_size);

void tiny_vae_tensors(tiny_model *model);
void tiny_vae_config(ace_text *json);

/* A byte-level BPE in the manner of Qwen: 256 byte symbols, merges learned from a few sentences, added tokens. */
typedef struct tiny_bpe tiny_bpe;

tiny_bpe *tiny_bpe_learn(ace_error *error);
void tiny_bpe_free(tiny_bpe *bpe);
int tiny_bpe_vocab_size(const tiny_bpe *bpe); /* added tokens included */

/* tokenizer.json of the text encoder, which appends <|endoftext|>; and of the planner, which appends nothing and has
 * the audio codes as added tokens, as its added_tokens.json lists them again. */
void tiny_bpe_json(ace_text *json, const tiny_bpe *bpe);
void tiny_bpe_planner_json(ace_text *json, const tiny_bpe *bpe);
void tiny_bpe_planner_added_json(ace_text *json, const tiny_bpe *bpe);

/* Learned tokens and merges in the byte alphabet: a token, and "left right". */
int tiny_bpe_token_count(const tiny_bpe *bpe);
void tiny_bpe_token(ace_text *out, const tiny_bpe *bpe, int id);
int tiny_bpe_merge_count(const tiny_bpe *bpe);
void tiny_bpe_merge(ace_text *out, const tiny_bpe *bpe, int rank);

/* ---- gguf.c: the files of acestep.cpp, NAME-BF16.gguf (dit.md 1.8) ---- */

bool tiny_write_gguf_dit(const char *directory, const tiny_dit_shape *shape, ace_error *error);

/* NAME-Q4_K_M.gguf and Q8_0.gguf, with the matrices in blocks: the DiT's layers in all types, those of a layer in
 * several as such files have it; all others in Q8_0. */
bool tiny_write_gguf_dit_blocks(const char *directory, const tiny_dit_shape *shape, ace_error *error);
bool tiny_write_gguf_planner_blocks(const char *directory, const tiny_bpe *bpe, ace_error *error);
bool tiny_write_gguf_text_encoder(const char *directory, const tiny_bpe *bpe, ace_error *error);
bool tiny_write_gguf_planner(const char *directory, const tiny_bpe *bpe, ace_error *error);
bool tiny_write_gguf_vae(const char *directory, ace_error *error);

#endif
