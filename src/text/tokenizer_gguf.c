#include "text/bpe.h"

#include "base/error.h"
#include "formats/tensors.h"

#include <string.h>

static const char *token_at(const void *tensors, size_t i, size_t *length)
{
    return tensors_metadata_array_string(tensors, "tokenizer.ggml.tokens", i, length);
}

static const char *merge_at(const void *tensors, size_t i, size_t *length)
{
    return tensors_metadata_array_string(tensors, "tokenizer.ggml.merges", i, length);
}

/* `found` must be `wanted`, or absent where that is allowed. */
static bool check(const char *found, const char *wanted, const char *key, bool optional, ace_error *error)
{
    if ((!found && optional) || (found && strcmp(found, wanted) == 0)) return true;
    return ace_fail(error, ACE_ERROR_MODEL, "%s is '%.60s', not '%s': this GGUF file has no Qwen tokenizer", key,
                    found ? found : "absent", wanted);
}

ace_tokenizer *tokenizer_open_gguf(const ace_tensors *tensors, ace_error *error)
{
    if (!check(tensors_metadata(tensors, "tokenizer.ggml.model"), "gpt2", "tokenizer.ggml.model", false, error) ||
        !check(tensors_metadata(tensors, "tokenizer.ggml.pre"), "qwen2", "tokenizer.ggml.pre", true, error))
        return NULL;
    tokenizer_strings tokens = {tensors_metadata_array_count(tensors, "tokenizer.ggml.tokens"), token_at, tensors};
    tokenizer_strings merges = {tensors_metadata_array_count(tensors, "tokenizer.ggml.merges"), merge_at, tensors};
    return tokenizer_from_arrays(&tokens, &merges, error);
}
