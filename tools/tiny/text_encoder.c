/* text_encoder.c - the two Qwen3 models of a tiny checkpoint, the text encoder and the planner (lm.md 1.2; names
 * without the "model." prefix, as the official ones have them). */
#include "tiny.h"

tiny_stack tiny_text_encoder_stack(void)
{
    /* heads * head_dim != hidden, as in the 0.6B. */
    return (tiny_stack){
        .layers = 3, .hidden = TINY_TEXT_HIDDEN, .intermediate = 144, .heads = 4, .kv_heads = 2, .head_dim = 16};
}

void tiny_text_encoder_tensors(tiny_model *model, int vocab_size)
{
    tiny_stack stack = tiny_text_encoder_stack();
    tiny_add(model, 0.7, 0, 2, (int64_t[]){vocab_size, stack.hidden}, "embed_tokens.weight");
    tiny_add_encoder_stack(model, "", &stack, stack.layers);
    tiny_model_sort(model);
}

/* A narrow embedding, since it has so many rows. */
tiny_stack tiny_planner_stack(void)
{
    return (tiny_stack){.layers = 4, .hidden = 32, .intermediate = 96, .heads = 6, .kv_heads = 2, .head_dim = 16};
}

/* The tied head would find the last token in the residual stream and say it for ever. So the weight of the final norm,
 * which stands between the two, has as many negative as positive elements. */
void tiny_planner_tensors(tiny_model *model, int vocab_size)
{
    tiny_stack stack = tiny_planner_stack();
    tiny_add(model, 0.5, 0, 2, (int64_t[]){vocab_size, stack.hidden}, "embed_tokens.weight");
    tiny_add_encoder_stack(model, "", &stack, stack.layers);
    if (model->failed) return;
    tiny_tensor *norm = &model->tensors[model->count - 1];
    norm->deviation = 1;
    norm->center = 0;
    tiny_model_sort(model);
}

static void write_config(ace_text *json, const tiny_stack *stack, const char *architecture, int end_token,
                         int vocab_size)
{
    ace_text_format(json,
                    "{\n  \"architectures\": [\n    \"%s\"\n  ],\n  \"attention_bias\": false,\n"
                    "  \"attention_dropout\": 0.0,\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n"
                    "  \"head_dim\": %d,\n  \"hidden_act\": \"silu\",\n  \"hidden_size\": %d,\n"
                    "  \"initializer_range\": 0.02,\n  \"intermediate_size\": %d,\n"
                    "  \"max_position_embeddings\": 32768,\n  \"max_window_layers\": %d,\n"
                    "  \"model_type\": \"qwen3\",\n",
                    architecture, end_token, end_token, stack->head_dim, stack->hidden, stack->intermediate,
                    stack->layers);
    ace_text_format(json,
                    "  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n  \"num_key_value_heads\": %d,\n"
                    "  \"rms_norm_eps\": 1e-06,\n  \"rope_scaling\": null,\n  \"rope_theta\": 1000000,\n"
                    "  \"sliding_window\": null,\n  \"tie_word_embeddings\": true,\n"
                    "  \"torch_dtype\": \"bfloat16\",\n  \"transformers_version\": \"4.51.3\",\n"
                    "  \"use_cache\": true,\n  \"use_sliding_window\": false,\n  \"vocab_size\": %d\n}\n",
                    stack->heads, stack->layers, stack->kv_heads, vocab_size);
}

void tiny_text_encoder_config(ace_text *json, int vocab_size)
{
    tiny_stack stack = tiny_text_encoder_stack();
    write_config(json, &stack, "Qwen3ForCausalLM", vocab_size - 26, vocab_size);
}

/* It ends with <|im_end|>, the third of the 26 added tokens before the audio codes. */
void tiny_planner_config(ace_text *json, int vocab_size)
{
    tiny_stack stack = tiny_planner_stack();
    write_config(json, &stack, "Qwen3Model", vocab_size - TINY_AUDIO_CODES - 24, vocab_size);
}
