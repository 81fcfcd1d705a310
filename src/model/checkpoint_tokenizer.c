#include "base/error.h"
#include "model/checkpoint.h"
#include "text/bpe.h"

ace_tokenizer *checkpoint_tokenizer(const ace_checkpoint *checkpoint, ace_error *error)
{
    if (checkpoint->tokenizer_path) return tokenizer_open_json(checkpoint->tokenizer_path, error);
    if (checkpoint->tokenizer_tensors) return tokenizer_open_gguf(checkpoint->tokenizer_tensors, error);
    ace_fail(error, ACE_ERROR_INTERNAL, "a synthetic checkpoint has no tokenizer");
    return NULL;
}
