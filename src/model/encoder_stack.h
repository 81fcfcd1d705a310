/* encoder_stack.h - a stack of Qwen3-style layers over whole sequences (dit.md 2.7): the text encoder (causal), the
 * lyric and timbre encoders, the attention pooler and the detokenizer (bidirectional, banded and full layers). */
#ifndef ACE_MODEL_ENCODER_STACK_H
#define ACE_MODEL_ENCODER_STACK_H

#include "model/transformer.h"

typedef struct encoder_layer {
    const ace_weight *input_norm;
    self_attention attention;
    const ace_weight *post_norm;
    gated_mlp mlp;
} encoder_layer;

typedef struct encoder_stack {
    transformer_config shape; /* shape.layers is the depth of this stack */
    ace_attention_mask mask[CONFIG_MAX_LAYERS];
    int64_t radius;                          /* of the banded layers, tokens */
    encoder_layer layers[CONFIG_MAX_LAYERS]; /* but the streamed ones: see encoder_stack_hold() */
    layer_storage storage;
    const ace_part *part; /* of a streamed stack */
    char prefix[96];
    const ace_weight *norm; /* the final norm: for the caller to apply to the rows that it wants */
} encoder_stack;

/* What the layers of a stack see. */
typedef struct encoder_masks {
    bool causal;         /* every layer sees the past only */
    const bool *sliding; /* else: layer i sees |i - j| <= radius when sliding[i], everything otherwise */
    int64_t radius;
} encoder_masks;

/* Loads "<prefix>layers.N.*" and "<prefix>norm.weight" into `set`. shape->layers is ignored in favour of `layers`.
 * Failures stick in the set's device. */
void encoder_stack_load(encoder_stack *stack, ace_weight_set *set, const char *prefix, const transformer_config *shape,
                        int layers, const encoder_masks *masks, const layer_storage *storage);

/* All layers, without the final norm, in place on x: F32 [items * length][hidden], `items` independent sequences of the
 * same length one after the other. Positions of each run from 0. */
void encoder_stack_forward(ace_device *dev, const encoder_stack *stack, ace_mat x, int64_t items, int64_t length);

/* A layer for a moment: one that is there, or one that was loaded for it, into the memory of the one before. */
typedef struct held_encoder_layer {
    const encoder_layer *layer; /* NULL when it could not be loaded: the device has failed */
    encoder_layer loaded;
    ace_weight_set set;
} held_encoder_layer;

/* Zero-initialise for the first layer of a pass; encoder_stack_let_go() is due after the last. The pages of the next
 * streamed layer are asked for meanwhile. */
void encoder_stack_hold(held_encoder_layer *held, ace_device *dev, const encoder_stack *stack, int i);
void encoder_stack_let_go(held_encoder_layer *held);

/* Asks for the pages of the first streamed layer from i on, if there is one. */
void encoder_stack_ask(ace_device *dev, const encoder_stack *stack, int i);

#endif
