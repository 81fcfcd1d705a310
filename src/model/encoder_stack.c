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

/* Whether layer i is loaded when it is needed: as many of the stack as its storage says, spread evenly, so that pages
 * are asked for while other layers compute. */
static bool is_streamed(const encoder_stack *stack, int i)
{
    int layers = stack->shape.layers, streamed = layers - stack->storage.resident;
    return stack->storage.streamed && streamed > 0 && (i + 1) * streamed / layers != i * streamed / layers;
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
        if (!is_streamed(stack, i)) load_layer(&stack->layers[i], set, prefix, &stack->shape, i);
    }
    set->form = ACE_FORM_PLAIN;
    char name[160];
    snprintf(name, sizeof name, "%snorm.weight", prefix);
    stack->norm = weights_vector(set, shape->hidden, name);
}

void encoder_stack_ask(ace_device *dev, const encoder_stack *stack, int i)
{
    while (i < stack->shape.layers && !is_streamed(stack, i)) i++;
    if (i >= stack->shape.layers || ace_device_is_meter(dev)) return;
    encoder_layer unused;
    ace_weight_set ahead;
    weights_begin(&ahead, dev, stack->part);
    ahead.use = WEIGHTS_AHEAD;
    load_layer(&unused, &ahead, stack->prefix, &stack->shape, i);
}

void encoder_stack_hold(held_encoder_layer *held, ace_device *dev, const encoder_stack *stack, int i)
{
    held->layer = &stack->layers[i];
    if (!is_streamed(stack, i)) return;
    if (!held->set.dev) weights_begin(&held->set, dev, stack->part);
    weights_again(&held->set);
    held->set.use = WEIGHTS_PASSING;
    held->set.form = stack->storage.form;
    load_layer(&held->loaded, &held->set, stack->prefix, &stack->shape, i);
    held->layer = ace_device_ok(dev, NULL) ? &held->loaded : NULL;
    encoder_stack_ask(dev, stack, i + 1);
}

void encoder_stack_let_go(held_encoder_layer *held)
{
    weights_free(&held->set);
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
    ace_mark mark = ace_scratch_mark(dev);
    const transformer_config *shape = &stack->shape;
    attention_span span = {.items = items,
                           .length = length,
                           .rope = rope_table(dev, length, shape->head_dim, shape->rope_theta),
                           .radius = stack->radius};

    held_encoder_layer held = {0};
    for (int i = 0; i < shape->layers; i++) {
        span.mask = stack->mask[i];
        encoder_stack_hold(&held, dev, stack, i);
        if (held.layer) forward_layer(dev, stack, held.layer, x, &span);
    }
    encoder_stack_let_go(&held);
    ace_scratch_release(dev, mark);
}
