#include "model/qwen3.h"

#include "base/error.h"

void qwen3_load(qwen3 *model, ace_device *dev, const ace_part *part, const qwen3_config *config,
                const layer_storage *storage)
{
    *model = (qwen3){.config = *config};
    ace_weight_set *set = &model->weights;
    weights_begin(set, dev, part);
    model->embed_tokens = weights_table(set, config->vocab_size, config->stack.hidden, "embed_tokens.weight");
    encoder_stack_load(&model->stack, set, "", &config->stack, config->stack.layers, &(encoder_masks){.causal = true},
                       storage);
}

void qwen3_free(qwen3 *model)
{
    weights_free(&model->weights);
}

/* Ids come from a tokenizer file, which need not belong to these weights. */
static bool ids_known(const qwen3 *model, const int32_t *ids, int64_t count)
{
    for (int64_t i = 0; ids && i < count; i++) {
        if (ids[i] >= 0 && ids[i] < model->config.vocab_size) continue;
        ace_error error = {0};
        ace_fail(&error, ACE_ERROR_MODEL,
                 "token %d does not exist in the text encoder's vocabulary of %d: tokenizer and text encoder are not "
                 "from the same checkpoint",
                 (int)ids[i], model->config.vocab_size);
        ace_device_fail(model->weights.dev, &error);
        return false;
    }
    return true;
}

void qwen3_embed(const qwen3 *model, ace_mat y, const int32_t *ids, int64_t count)
{
    if (ids_known(model, ids, count)) ace_embed(model->weights.dev, y, model->embed_tokens, ids, count);
}

void qwen3_forward(const qwen3 *model, ace_mat y, const int32_t *ids, int64_t count)
{
    ace_device *dev = model->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat x = ace_scratch(dev, ACE_F32, count, model->config.stack.hidden);

    qwen3_embed(model, x, ids, count);
    encoder_stack_forward(dev, &model->stack, x, 1, count);
    ace_rms_norm(dev, y, x, model->stack.norm, model->config.stack.rms_norm_eps, (ace_mat){0}, (ace_mat){0});
    ace_scratch_release(dev, mark);
}
