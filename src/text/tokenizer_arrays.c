/* Tokenizers from lists of strings, as GGUF files carry them. */
#include "text/tokenizer.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The added tokens of Qwen3, in the order of their ids behind the vocabulary (spec/lm.md 2.5). */
static const char *const qwen3_added[] = {
    "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",      "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>",  "<|box_end|>",    "<|quad_start|>",  "<|quad_end|>",         "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",   "<|video_pad|>",        "<tool_call>",
    "</tool_call>",   "<|fim_prefix|>", "<|fim_middle|>",  "<|fim_suffix|>",       "<|fim_pad|>",
    "<|repo_name|>",  "<|file_sep|>",   "<tool_response>", "</tool_response>",     "<think>",
    "</think>",
};

enum { QWEN3_ADDED = sizeof qwen3_added / sizeof qwen3_added[0] };

static const char *string_at(const tokenizer_strings *strings, size_t i, size_t *n, const char *what, ace_error *error)
{
    const char *string = strings->at(strings->context, i, n);
    size_t offset = 0;
    if (string && ace_utf8_valid(string, *n, &offset)) return string;
    ace_fail(error, ACE_ERROR_FORMAT, "%s %zu is %s: the file is damaged", what, i, string ? "not UTF-8" : "missing");
    return NULL;
}

/* "[PAD{id}]": converters write it where the model's matrix has more rows than the tokenizer has tokens. */
static bool is_filler(const char *token, size_t n, size_t id)
{
    char filler[32];
    int length = snprintf(filler, sizeof filler, "[PAD%zu]", id);
    return (size_t)length == n && memcmp(filler, token, n) == 0;
}

/* True in base[] for every token that encoding can produce: single bytes and the results of merges. */
static bool *mark_base(const bpe_model *model, ace_error *error)
{
    bool *base = ace_calloc(model->token_limit, sizeof *base, "the vocabulary", error);
    if (!base) return NULL;
    for (int byte = 0; byte < 256; byte++) base[model->byte_ids[byte]] = true;
    for (size_t i = 0; i < model->merge_count; i++) base[model->merges[i].result] = true;
    return base;
}

/* Tokens in the byte alphabet go to the model: whether one is an added token is known when the merges are. */
static bool read_arrays(ace_tokenizer *tokenizer, const tokenizer_strings *tokens, const tokenizer_strings *merges,
                        ace_error *error)
{
    bpe_model *model = &tokenizer->model;
    size_t n;
    for (size_t id = 0; id < tokens->count; id++) {
        const char *token = string_at(tokens, id, &n, "token", error);
        if (!token) return false;
        if (n == 0 || is_filler(token, n, id) || bpe_symbols_to_bytes(token, n, NULL) < 0) continue;
        if (!bpe_model_add_token(model, (int64_t)id, token, n, error)) return false;
    }
    if (!bpe_model_index(model, error)) return false;
    for (size_t i = 0; i < merges->count; i++) {
        const char *merge = string_at(merges, i, &n, "merge", error);
        if (!merge || !bpe_model_add_merge_line(model, merge, n, error)) return false;
    }
    return true;
}

static bool add_literals(ace_tokenizer *tokenizer, const tokenizer_strings *tokens, const bool *base, ace_error *error)
{
    const bpe_model *model = &tokenizer->model;
    bool any = false;
    for (size_t id = 0; id < tokens->count; id++) {
        size_t n;
        const char *token = string_at(tokens, id, &n, "token", error);
        if (!token) return false;
        bool in_model = id < model->token_limit && model->tokens[id].length > 0;
        if (n == 0 || is_filler(token, n, id) || (in_model && base[id])) continue;
        if (in_model) {
            token = model->bytes + model->tokens[id].at;
            n = model->tokens[id].length;
        }
        if (!tokenizer_add(tokenizer, (int64_t)id, token, n, false, error)) return false;
        any = true;
    }
    for (size_t i = 0; !any && i < QWEN3_ADDED; i++) {
        int64_t id = (int64_t)(tokens->count + i);
        if (!tokenizer_add(tokenizer, id, qwen3_added[i], strlen(qwen3_added[i]), false, error)) return false;
    }
    return true;
}

ace_tokenizer *tokenizer_from_arrays(const tokenizer_strings *tokens, const tokenizer_strings *merges, ace_error *error)
{
    ace_tokenizer *tokenizer = tokenizer_new(error);
    if (!tokenizer) return NULL;
    bool *base = NULL;
    bool ok = read_arrays(tokenizer, tokens, merges, error) && (base = mark_base(&tokenizer->model, error)) &&
              add_literals(tokenizer, tokens, base, error) && bpe_model_finish(&tokenizer->model, error);
    free(base);
    if (ok) return tokenizer;
    tokenizer_close(tokenizer);
    return NULL;
}
