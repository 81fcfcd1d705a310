/* config.h - the dimensions of the models, from config.json, GGUF keys or tensor shapes (dit.md 1.2, 1.8, 1.10). */
#ifndef ACE_MODEL_CONFIG_H
#define ACE_MODEL_CONFIG_H

#include <acestep.h>

enum { CONFIG_MAX_LAYERS = 128, CONFIG_MAX_FSQ = 8, CONFIG_MAX_VAE_BLOCKS = 8 };

/* One stack of Qwen3-style layers. */
typedef struct transformer_config {
    int layers, hidden, intermediate, heads, kv_heads, head_dim;
    float rms_norm_eps;
    double rope_theta;
} transformer_config;

/* The text encoder, and later the planner LMs. */
typedef struct qwen3_config {
    transformer_config stack;
    int vocab_size; /* rows of the embedding */
    bool tied_head;
} qwen3_config;

/* The DiT file: diffusion transformer, condition encoder, audio tokenizer and detokenizer. */
typedef struct dit_config {
    transformer_config dit;
    transformer_config encoder; /* lyric, timbre, pooler, detokenizer stacks; layers is lyric_layers */
    int lyric_layers, timbre_layers, pooler_layers;
    int latent_channels;             /* 64 */
    int in_channels;                 /* 3 * latent_channels */
    int patch_size;                  /* 2 */
    int text_hidden;                 /* width of the text encoder, 1024 */
    int sliding_window;              /* radius, tokens */
    bool sliding[CONFIG_MAX_LAYERS]; /* layer i of every stack uses the band when sliding[i] */
    int timbre_frames;               /* 750 */
    int pool_window;                 /* 5 frames a code */
    int fsq_dim;                     /* 2048 */
    int fsq_levels[CONFIG_MAX_FSQ], fsq_count;
    bool timbre_token; /* the special token is prepended: XL, that is encoder.hidden != dit.hidden in the file */
    bool is_turbo;
    bool turbo_known; /* false when neither config nor key told: the caller must */
} dit_config;

typedef struct vae_config {
    int audio_channels;                   /* 2 */
    int latent_channels;                  /* 64 */
    int hidden;                           /* 128: decoder_channels = encoder_hidden_size */
    int blocks;                           /* 5 */
    int multiples[CONFIG_MAX_VAE_BLOCKS]; /* 1 2 4 8 16 */
    int strides[CONFIG_MAX_VAE_BLOCKS];   /* downsampling ratios in encoder order: 2 4 4 6 10 */
    int sample_rate;                      /* 48000 */
} vae_config;

typedef struct ace_part ace_part;

/* ---- from config.json ------------------------------------------------------------------------------------------
 *
 * `where` names the source in messages. A value that is missing gets the official default; one that this program cannot
 * honour (attention_bias, a rope scaling, another activation) or that no model can have is ACE_ERROR_MODEL, JSON that
 * is damaged or of the wrong types ACE_ERROR_FORMAT. */
bool dit_config_parse(dit_config *config, const char *json, size_t n, const char *where, ace_error *error);
bool qwen3_config_parse(qwen3_config *config, const char *json, size_t n, const char *where, ace_error *error);
bool vae_config_parse(vae_config *config, const char *json, size_t n, const char *where, ace_error *error);

/* ---- from tensor shapes, where there is no config (dit.md 1.10) ----------------------------------------------------
 *
 * What shapes cannot tell (window, epsilon, rope base, reference length) gets the official default. */
bool dit_config_from_shapes(dit_config *config, const ace_part *part, ace_error *error);
bool qwen3_config_from_shapes(qwen3_config *config, const ace_part *part, ace_error *error);
bool vae_config_from_shapes(vae_config *config, const ace_part *part, ace_error *error);

/* ---- against the tensors -----------------------------------------------------------------------------------------
 *
 * The shapes that follow from the config, and the number of layers; a difference is ACE_ERROR_MODEL naming both
 * values. The loaders check every tensor again when they read it. */
bool dit_config_check(const dit_config *config, const ace_part *part, ace_error *error);
/* Also takes vocab_size from the embedding, which is right where a config is not (lm.md 1.1). */
bool qwen3_config_check(qwen3_config *config, const ace_part *part, ace_error *error);
bool vae_config_check_tensors(const vae_config *config, const ace_part *part, ace_error *error);

/* Ranges that hold for every source; the functions above call them. */
bool dit_config_valid(const dit_config *config, const char *where, ace_error *error);
bool qwen3_config_valid(const qwen3_config *config, const char *where, ace_error *error);
bool vae_config_valid(const vae_config *config, const char *where, ace_error *error);

/* What the name of a model, its directory or its code tells: 1 turbo, 0 base or sft, -1 nothing. */
int config_recipe_of_name(const char *name);

#endif
