#include "model/encoder_stack.h"

#include "base/error.h"
#include "model/rope.h"

#include <stdio.h>

static ace_attention_mask layer_mask(const encoder_masks *masks, int layer)
{
    if (masks->causal) return ACE_MASK_CAUSAL;
    return masks->sliding[layer] ? ACE_MASK_BAND : ACE_MASK_FULL;
}

static void load_layer(encoder_layer *layer, ace_weight_set *set, const char *prefix, const transformer_config *shape,
                       int i)
{
    char name[160];
    snprintf(name, sizeof name, "%slayers.%d.input_layernorm.weight", prefix, i);
    layer->input_norm = weights_vector(set, shape->hidden, name);
    snprintf(name, sizeof name, "%slayers.%d.self_attn.", prefix, i);
    self_attention_load(&layer->attention, set, name, shape);
    snprintf(name, sizeof name, "%slayers.%d.post_attention_layernorm.weight", prefix, i);
    layer->post_norm = weights_vector(set, shape->hidden, name);
    snprintf(name, sizeof name, "%slayers.%d.mlp.", prefix, i);
    gated_mlp_load(&layer->mlp, set, name, shape);
}

void encoder_stack_load(encoder_stack *stack, ace_weight_set *set, const char *prefix, const transformer_config *shape,
                        int layers, const encoder_masks *masks, const layer_storage *storage)
{
    *stack = (encoder_stack){.shape = *shape, .radius = masks->radius, .part = set->part};
    if (storage) stack->storage = *storage;
    snprintf(stack->prefix, sizeof stack->prefix, "%s", prefix);
    stack->shape.layers = layers;
    if (layers < 0 || layers > CONFIG_MAX_LAYERS) {
        ace_error error = {0};
        ace_fail(&error, ACE_ERROR_MODEL, "%s: %s has %d layers, at most %d are supported", part_path(set->part),
                 prefix, layers, CONFIG_MAX_LAYERS);
        ace_device_fail(set->dev, &error);
        return;
    }
    set->form = stack->storage.form;
    for (int i = 0; i < layers; i++) {
        stack->mask[i] = layer_mask(masks, i);
        if (!stack->storage.streamed) load_layer(&stack->layers[i], set, prefix, &stack->shape, i);
    }
    set->form = ACE_FORM_PLAIN;
    char name[160];
    snprintf(name, sizeof name, "%snorm.weight", prefix);
    stack->norm = weights_vector(set, shape->hidden, name);
}

/* Layer i of a streamed stack, in a set of its own; the next one is asked for. */
static bool stream_layer(ace_device *dev, const encoder_stack *stack, int i, encoder_layer *layer, ace_weight_set *set)
{
    weights_begin(set, dev, stack->part);
    set->use = WEIGHTS_PASSING;
    set->form = stack->storage.form;
    load_layer(layer, set, stack->prefix, &stack->shape, i);
    if (i + 1 < stack->shape.layers) {
        encoder_layer unused;
        ace_weight_set ahead;
        weights_begin(&ahead, dev, stack->part);
        ahead.use = WEIGHTS_AHEAD;
        load_layer(&unused, &ahead, stack->prefix, &stack->shape, i + 1);
    }
    return ace_device_ok(dev, NULL);
}

static void forward_layer(ace_device *dev, const encoder_stack *stack, const encoder_layer *layer, ace_mat x,
                          const attention_span *span)
{
    const transformer_config *shape = &stack->shape;
    self_attention_forward(dev, &layer->attention, shape, &(transformer_branch){.norm = layer->input_norm}, x, span);
    gated_mlp_forward(dev, &layer->mlp, shape, &(transformer_branch){.norm = layer->post_norm}, x);
}

void encoder_stack_forward(ace_device *dev, const encoder_stack *stack, ace_mat x, int64_t items, int64_t length)
{
    size_t mark = ace_scratch_mark(dev);
    const transformer_config *shape = &stack->shape;
    attention_span span = {.items = items,
                           .length = length,
                           .rope = rope_table(dev, length, shape->head_dim, shape->rope_theta),
                           .radius = stack->radius};

    for (int i = 0; i < shape->layers; i++) {
        span.mask = stack->mask[i];
        if (stack->storage.streamed) {
            encoder_layer layer;
            ace_weight_set set;
            if (stream_layer(dev, stack, i, &layer, &set)) forward_layer(dev, stack, &layer, x, &span);
            weights_free(&set);
        } else {
            forward_layer(dev, stack, &stack->layers[i], x, &span);
        }
    }
    ace_scratch_release(dev, mark);
}
