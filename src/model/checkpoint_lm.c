#include "model/checkpoint_lm.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/bpe.h"
#include "text/json_pull.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A planner names 65,535 audio codes, of which it uses NAMES_AUDIO_CODES (lm.md 2.6, D13). */
enum { NAMED_CODES = 65535, DEFAULT_HIDDEN = 2048, DEFAULT_LAYERS = 28, ADDED_TOKENS_LIMIT = 64 << 20 };

/* ---- choosing -------------------------------------------------------------------------------------------------- */

/* The published sizes differ in width and depth (lm.md 1.1). */
static bool is_default_size(const found_model *model)
{
    char name[NAMES_PREFIX_SIZE + 64];
    snprintf(name, sizeof name, "%sembed_tokens.weight", model->prefix);
    const ace_tensor *embedding = tensors_find(model->tensors, name);
    snprintf(name, sizeof name, "%slayers.%d.self_attn.q_proj.weight", model->prefix, DEFAULT_LAYERS - 1);
    bool deep = tensors_find(model->tensors, name) != NULL;
    snprintf(name, sizeof name, "%slayers.%d.self_attn.q_proj.weight", model->prefix, DEFAULT_LAYERS);
    return embedding && embedding->rank == 2 && embedding->shape[1] == DEFAULT_HIDDEN && deep &&
           !tensors_find(model->tensors, name);
}

const found_model *lm_choose_found(const checkpoint_scan *scan, const char *where, ace_error *problem)
{
    const found_model *only = NULL, *preferred = NULL;
    size_t count = scan_count(scan, FOUND_PLANNER, &only), of_default_size = 0;
    if (count == 1) return only;
    for (size_t i = 0; i < scan->count; i++) {
        if (scan->models[i].kind != FOUND_PLANNER || !is_default_size(&scan->models[i])) continue;
        preferred = &scan->models[i];
        of_default_size++;
    }
    if (of_default_size == 1) return preferred;
    if (count == 0) {
        ace_fail(
            problem, ACE_ERROR_MODEL,
            "no 5 Hz planner in '%s': put the directory acestep-5Hz-lm-1.7B of ACE-Step/Ace-Step1.5 there, or name "
            "one with --lm",
            where);
        return NULL;
    }
    ace_text found = {0};
    scan_describe(scan, FOUND_PLANNER, &found);
    char *list = ace_text_take(&found, problem);
    if (list)
        ace_fail(problem, ACE_ERROR_MODEL, "there are several planners to choose from (%s): name one with --lm", list);
    free(list);
    return NULL;
}

bool lm_list(ace_checkpoint *c, const checkpoint_scan *scan, ace_error *error)
{
    const found_model *first;
    size_t count = scan_count(scan, FOUND_PLANNER, &first);
    c->lm_paths = ace_calloc(count, sizeof *c->lm_paths, "a list of models", error);
    if (!c->lm_paths) return false;
    for (size_t i = 0; i < scan->count; i++) {
        if (scan->models[i].kind != FOUND_PLANNER) continue;
        char *path = ace_strdup(scan->models[i].path, error);
        if (!path) return false;
        c->lm_paths[c->lm_path_count++] = path;
    }
    return true;
}

bool checkpoint_need_lm(const ace_checkpoint *c, ace_error *error)
{
    return c->has_lm || ace_fail(error, c->lm_problem.status, "%s", c->lm_problem.message);
}

bool checkpoint_lm_hash(const ace_checkpoint *c, char hex[33], const atomic_bool *stop)
{
    return c->has_lm && tensors_hash(c->lm_tensors, hex, stop);
}

/* ---- the tokenizer ---------------------------------------------------------------------------------------------- */

/* What added_tokens.json says of the audio codes: the ids of the first and the last, -1 where it is silent. */
typedef struct listed_codes {
    int64_t first, last;
} listed_codes;

static bool read_id(json_pull *json, int64_t *id)
{
    if (!json_pull_integer(json, id)) return false;
    if (*id >= 0) return true;
    json->failed = true;
    return ace_fail(json->error, ACE_ERROR_FORMAT, "an audio code has id %lld: the file is damaged", (long long)*id);
}

static bool read_listed(char *text, size_t n, listed_codes *codes, ace_error *error)
{
    size_t offset;
    if (!ace_utf8_valid(text, n, &offset))
        return ace_fail(error, ACE_ERROR_FORMAT, "not UTF-8 at byte %zu: download the file again", offset);
    json_pull json = json_pull_begin(text, n, error);
    json_slice token;
    json_pull_enter(&json, '{');
    while (json_pull_key(&json, &token)) {
        if (json_slice_is(token, "<|audio_code_0|>"))
            read_id(&json, &codes->first);
        else if (json_slice_is(token, "<|audio_code_65534|>"))
            read_id(&json, &codes->last);
        else
            json_pull_skip(&json);
    }
    return json_pull_end(&json);
}

static bool find_listed(const ace_checkpoint *c, listed_codes *codes, ace_error *error)
{
    *codes = (listed_codes){-1, -1};
    if (!c->lm_directory) return true;
    char *path = ace_path_join(c->lm_directory, "added_tokens.json", error);
    bool ok = path != NULL;
    if (ok && ace_path_exists(path)) {
        size_t n;
        char *text = ace_read_file(path, ADDED_TOKENS_LIMIT, &n, error);
        ok = text != NULL && (read_listed(text, n, codes, error) || ace_fail_in(error, "'%s'", path));
        free(text);
    }
    free(path);
    return ok;
}

static ace_tokenizer *open_tokenizer(const ace_checkpoint *c, ace_error *error)
{
    char *path = c->lm_directory ? ace_path_join(c->lm_directory, "tokenizer.json", error) : NULL;
    if (c->lm_directory && !path) return NULL;
    ace_tokenizer *tokenizer;
    if (path && ace_path_exists(path))
        tokenizer = tokenizer_open_json(path, error);
    else if (tensors_metadata_array_count(c->lm_tensors, "tokenizer.ggml.tokens") > 0)
        tokenizer = tokenizer_open_gguf(c->lm_tensors, error);
    else
        tokenizer = checkpoint_tokenizer(c, error);
    free(path);
    return tokenizer;
}

/* Gives the tokenizer the codes that its file left out: from the id that added_tokens.json says, or else behind the
 * text vocabulary. */
static bool add_codes(const ace_checkpoint *c, ace_tokenizer *tokenizer, const listed_codes *listed, ace_error *error)
{
    if (tokenizer_audio_count(tokenizer) > 0) return true;
    int64_t first = listed->first >= 0 ? listed->first : tokenizer_limit(tokenizer), count = c->lm.vocab_size - first;
    if (first > c->lm.vocab_size || count < NAMES_AUDIO_CODES)
        return ace_fail(
            error, ACE_ERROR_MODEL,
            "audio codes from id %lld have no place in the vocabulary of %d: use the tokenizer that came with "
            "the planner",
            (long long)first, c->lm.vocab_size);
    return tokenizer_set_audio_codes(tokenizer, (int32_t)first, count < NAMED_CODES ? (int32_t)count : NAMED_CODES,
                                     error);
}

/* Tokenizer, added_tokens.json and embedding must speak of the same ids. */
static bool check_codes(const ace_checkpoint *c, const ace_tokenizer *tokenizer, const listed_codes *listed,
                        ace_error *error)
{
    int32_t first = tokenizer_audio_first(tokenizer), count = tokenizer_audio_count(tokenizer);
    if ((listed->first >= 0 && listed->first != first) ||
        (listed->last >= 0 && listed->last - (NAMED_CODES - 1) != first))
        return ace_fail(
            error, ACE_ERROR_MODEL,
            "added_tokens.json has the audio codes from %lld to %lld, but the tokenizer has them from %" PRId32
            " on: use the files that came with the planner",
            (long long)listed->first, (long long)listed->last, first);
    if (count < NAMES_AUDIO_CODES)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the tokenizer has %" PRId32 " audio codes, not %d: use the one that came with the planner",
                        count, NAMES_AUDIO_CODES);
    if (tokenizer_limit(tokenizer) > c->lm.vocab_size)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the tokenizer has tokens up to %" PRId32
                        ", but the planner only %d: use the tokenizer that came "
                        "with it",
                        tokenizer_limit(tokenizer) - 1, c->lm.vocab_size);
    static const char *const needed[] = {"<|im_start|>", "<|im_end|>", "<think>", "</think>"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (tokenizer_added(tokenizer, needed[i]) < 0)
            return ace_fail(error, ACE_ERROR_MODEL, "the tokenizer has no %s: use the one that came with the planner",
                            needed[i]);
    return true;
}

ace_tokenizer *checkpoint_lm_tokenizer(const ace_checkpoint *c, ace_error *error)
{
    listed_codes listed;
    if (!checkpoint_need_lm(c, error)) return NULL;
    ace_tokenizer *tokenizer = open_tokenizer(c, error);
    if (!tokenizer) return NULL;
    if (find_listed(c, &listed, error)) {
        if (add_codes(c, tokenizer, &listed, error) && check_codes(c, tokenizer, &listed, error)) return tokenizer;
        ace_fail_in(error, "planner '%s'", part_path(c->parts[ACE_PART_LM]));
    }
    tokenizer_close(tokenizer);
    return NULL;
}
