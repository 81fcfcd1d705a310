/* tensors.c - the list of a model's tensors, by what they are. */
#include "tiny.h"

#include "base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void tiny_model_free(tiny_model *model)
{
    free(model->tensors);
    *model = (tiny_model){0};
}

void tiny_add(tiny_model *model, double deviation, double center, int rank, const int64_t *shape, const char *format,
              ...)
{
    if (model->failed) return;
    if (model->count == model->capacity) {
        size_t capacity = model->capacity ? 2 * model->capacity : 256;
        tiny_tensor *tensors = ace_realloc(model->tensors, capacity, sizeof *tensors, "the tensor list", NULL);
        if (tensors == NULL) {
            model->failed = true;
            return;
        }
        model->tensors = tensors;
        model->capacity = capacity;
    }
    tiny_tensor *tensor = &model->tensors[model->count++];
    *tensor = (tiny_tensor){.rank = rank, .deviation = deviation, .center = center};
    for (int d = 0; d < rank; d++) tensor->shape[d] = shape[d];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(tensor->name, sizeof tensor->name, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof tensor->name) model->failed = true;
}

void tiny_add_linear(tiny_model *model, const char *prefix, int64_t out, int64_t in, double gain, bool with_bias)
{
    tiny_add(model, gain / sqrt((double)in), 0, 2, (int64_t[]){out, in}, "%s.weight", prefix);
    if (with_bias) tiny_add(model, 0.1, 0, 1, (int64_t[]){out}, "%s.bias", prefix);
}

void tiny_add_norm(tiny_model *model, const char *name, int64_t n)
{
    tiny_add(model, 0.15, 1, 1, (int64_t[]){n}, "%s", name);
}

/* Residual branches are added at half size: a deep stack then neither drowns its input nor explodes. */
static const double BRANCH_GAIN = 0.5;

void tiny_add_attention(tiny_model *model, const char *prefix, const tiny_stack *stack)
{
    char name[96];
    int64_t query = (int64_t)stack->heads * stack->head_dim, key = (int64_t)stack->kv_heads * stack->head_dim;
    snprintf(name, sizeof name, "%s.q_proj", prefix);
    tiny_add_linear(model, name, query, stack->hidden, 1, false);
    snprintf(name, sizeof name, "%s.k_proj", prefix);
    tiny_add_linear(model, name, key, stack->hidden, 1, false);
    snprintf(name, sizeof name, "%s.v_proj", prefix);
    tiny_add_linear(model, name, key, stack->hidden, 1, false);
    snprintf(name, sizeof name, "%s.o_proj", prefix);
    tiny_add_linear(model, name, stack->hidden, query, BRANCH_GAIN, false);
    snprintf(name, sizeof name, "%s.q_norm.weight", prefix);
    tiny_add_norm(model, name, stack->head_dim);
    snprintf(name, sizeof name, "%s.k_norm.weight", prefix);
    tiny_add_norm(model, name, stack->head_dim);
}

void tiny_add_mlp(tiny_model *model, const char *prefix, const tiny_stack *stack)
{
    char name[96];
    snprintf(name, sizeof name, "%s.gate_proj", prefix);
    tiny_add_linear(model, name, stack->intermediate, stack->hidden, 1, false);
    snprintf(name, sizeof name, "%s.up_proj", prefix);
    tiny_add_linear(model, name, stack->intermediate, stack->hidden, 1, false);
    snprintf(name, sizeof name, "%s.down_proj", prefix);
    tiny_add_linear(model, name, stack->hidden, stack->intermediate, BRANCH_GAIN, false);
}

void tiny_add_encoder_stack(tiny_model *model, const char *prefix, const tiny_stack *stack, int layers)
{
    char name[96];
    for (int i = 0; i < layers; i++) {
        snprintf(name, sizeof name, "%slayers.%d.input_layernorm.weight", prefix, i);
        tiny_add_norm(model, name, stack->hidden);
        snprintf(name, sizeof name, "%slayers.%d.self_attn", prefix, i);
        tiny_add_attention(model, name, stack);
        snprintf(name, sizeof name, "%slayers.%d.post_attention_layernorm.weight", prefix, i);
        tiny_add_norm(model, name, stack->hidden);
        snprintf(name, sizeof name, "%slayers.%d.mlp", prefix, i);
        tiny_add_mlp(model, name, stack);
    }
    snprintf(name, sizeof name, "%snorm.weight", prefix);
    tiny_add_norm(model, name, stack->hidden);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tiny_tensor *)a)->name, ((const tiny_tensor *)b)->name);
}

void tiny_model_sort(tiny_model *model)
{
    if (model->count > 0) qsort(model->tensors, model->count, sizeof *model->tensors, by_name);
}
