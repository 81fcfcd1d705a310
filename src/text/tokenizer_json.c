/* tokenizer.json of Hugging Face: the vocabulary, and checks that it asks for what bpe.h does and nothing else. */
#include "text/json_pull.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 256 << 20 };

/* ---- components -------------------------------------------------------------------------------------------- */

/* A normalizer, pre-tokenizer, post-processor or decoder. A slice whose data is NULL was not given; a position of 0
 * neither. Positions are those of values that were passed over and are read later, once. */
typedef struct component {
    bool present; /* false: null */
    json_slice type, pattern, behavior;
    bool invert, add_prefix_space, use_regex;
    size_t children, single, special_tokens;
} component;

static bool fail_unsupported(json_pull *json, const char *what)
{
    json->failed = true;
    return ace_fail(json->error, ACE_ERROR_MODEL,
                    "this tokenizer.json %s, which is not the Qwen2/Qwen3 tokenizer: use the file that came with the "
                    "checkpoint",
                    what);
}

static bool read_pattern(json_pull *json, json_slice *pattern)
{
    json_slice key;
    json_pull_enter(json, '{');
    while (json_pull_key(json, &key)) {
        if (!json_slice_is(key, "Regex")) return fail_unsupported(json, "splits text at a fixed string");
        if (!json_pull_string(json, pattern)) return false;
    }
    return !json->failed;
}

static bool later(json_pull *json, size_t *position)
{
    json_pull_peek(json);
    *position = json->at;
    return json_pull_skip(json);
}

static bool read_component(json_pull *json, component *c)
{
    *c = (component){.use_regex = true, .add_prefix_space = true};
    if (json_pull_peek(json) == 'n') return json_pull_skip(json);
    c->present = true;
    json_slice key;
    json_pull_enter(json, '{');
    while (json_pull_key(json, &key)) {
        if (json_slice_is(key, "type"))
            json_pull_string(json, &c->type);
        else if (json_slice_is(key, "pattern"))
            read_pattern(json, &c->pattern);
        else if (json_slice_is(key, "behavior"))
            json_pull_string(json, &c->behavior);
        else if (json_slice_is(key, "invert"))
            json_pull_bool(json, &c->invert);
        else if (json_slice_is(key, "add_prefix_space"))
            json_pull_bool(json, &c->add_prefix_space);
        else if (json_slice_is(key, "use_regex"))
            json_pull_bool(json, &c->use_regex);
        else if (json_slice_is(key, "pretokenizers") || json_slice_is(key, "processors"))
            later(json, &c->children);
        else if (json_slice_is(key, "single"))
            later(json, &c->single);
        else if (json_slice_is(key, "special_tokens"))
            later(json, &c->special_tokens);
        else
            json_pull_skip(json);
    }
    return !json->failed;
}

/* A reader at a position passed over before, inside as many containers as `json` is. */
static json_pull at_position(const json_pull *json, size_t position)
{
    json_pull there = *json;
    there.at = position;
    return there;
}

/* Lets a failure of the reader `there` be one of `json`. */
static bool finished(json_pull *json, const json_pull *there)
{
    json->failed |= there->failed;
    return !json->failed;
}

static bool read_normalizer(json_pull *json)
{
    component c;
    if (!read_component(json, &c)) return false;
    return (c.present && json_slice_is(c.type, "NFC")) || fail_unsupported(json, "does not normalise text to NFC");
}

static bool read_pre_tokenizer(json_pull *json)
{
    component c;
    if (!read_component(json, &c)) return false;
    if (!c.present || !json_slice_is(c.type, "Sequence") || c.children == 0)
        return fail_unsupported(json, "has no pre-tokenizer sequence");
    json_pull list = at_position(json, c.children);
    int count = 0;
    json_pull_enter(&list, '[');
    while (json_pull_item(&list) && read_component(&list, &c)) {
        count++;
        bool split = json_slice_is(c.type, "Split") && json_slice_is(c.pattern, PRETOKENIZE_PATTERN) &&
                     json_slice_is(c.behavior, "Isolated") && !c.invert;
        bool byte_level = json_slice_is(c.type, "ByteLevel") && !c.add_prefix_space && !c.use_regex;
        if (count == 1 ? !split : !byte_level) return fail_unsupported(json, "pre-tokenizes by other rules");
    }
    if (!finished(json, &list)) return false;
    return count == 2 || fail_unsupported(json, "pre-tokenizes by other rules");
}

static bool read_decoder(json_pull *json)
{
    component c;
    if (!read_component(json, &c)) return false;
    return (c.present && json_slice_is(c.type, "ByteLevel")) || fail_unsupported(json, "has no byte-level decoder");
}

/* ---- the post-processor ------------------------------------------------------------------------------------ */

/* "single" of a TemplateProcessing: the sequence A, and after it at most one special token, whose name is returned. */
static bool read_template(json_pull *json, json_slice *name)
{
    int sequences = 0, specials = 0;
    json_slice key, id;
    json_pull_enter(json, '[');
    while (json_pull_item(json)) {
        json_pull_enter(json, '{');
        while (json_pull_key(json, &key)) {
            bool special = json_slice_is(key, "SpecialToken");
            if (special ? specials > 0 || sequences == 0 : sequences > 0)
                return fail_unsupported(json, "adds more than one token behind the text");
            sequences += !special;
            specials += special;
            json_pull_enter(json, '{');
            while (json_pull_key(json, &key)) {
                if (json_slice_is(key, "id"))
                    json_pull_string(json, special ? name : &id);
                else
                    json_pull_skip(json);
            }
        }
    }
    return !json->failed;
}

/* "special_tokens": the one id of the token called `name`, -1 when it is not listed or has several. */
static bool read_special_id(json_pull *json, json_slice name, int64_t *id)
{
    json_slice key, field;
    *id = -1;
    json_pull_enter(json, '{');
    while (json_pull_key(json, &key)) {
        bool wanted = key.length == name.length && memcmp(key.data, name.data, name.length) == 0;
        json_pull_enter(json, '{');
        while (json_pull_key(json, &field)) {
            if (!wanted || !json_slice_is(field, "ids")) {
                json_pull_skip(json);
                continue;
            }
            int count = 0;
            json_pull_enter(json, '[');
            while (json_pull_item(json) && json_pull_integer(json, id)) count++;
            if (count != 1) *id = -1;
        }
    }
    return !json->failed;
}

/* One processor; *appended becomes the token that it puts behind every sequence. */
static bool apply_processor(json_pull *json, const component *c, int64_t *appended)
{
    if (json_slice_is(c->type, "ByteLevel")) return true; /* changes offsets only */
    if (!json_slice_is(c->type, "TemplateProcessing") || c->single == 0)
        return fail_unsupported(json, "has an unknown post-processor");
    json_slice name = {0};
    json_pull part = at_position(json, c->single);
    if (!read_template(&part, &name) || !finished(json, &part)) return finished(json, &part);
    if (!name.data) return true;
    if (*appended >= 0) return fail_unsupported(json, "adds more than one token behind the text");
    if (c->special_tokens > 0) {
        part = at_position(json, c->special_tokens);
        if (!read_special_id(&part, name, appended)) return finished(json, &part);
    }
    return *appended >= 0 || fail_unsupported(json, "appends a token that it does not define");
}

static bool read_post_processor(json_pull *json, int64_t *appended)
{
    component c;
    if (!read_component(json, &c)) return false;
    if (!c.present) return true;
    if (!json_slice_is(c.type, "Sequence")) return apply_processor(json, &c, appended);
    if (c.children == 0) return fail_unsupported(json, "has an unknown post-processor");
    json_pull list = at_position(json, c.children);
    json_pull_enter(&list, '[');
    while (json_pull_item(&list) && read_component(&list, &c))
        if (!apply_processor(&list, &c, appended)) break;
    return finished(json, &list);
}

/* ---- the model --------------------------------------------------------------------------------------------- */

static bool read_vocabulary(json_pull *json, bpe_model *model)
{
    json_slice token;
    int64_t id;
    if (model->index) return fail_unsupported(json, "has two vocabularies");
    json_pull_enter(json, '{');
    while (json_pull_key(json, &token))
        if (!json_pull_integer(json, &id) || !bpe_model_add_token(model, id, token.data, token.length, json->error))
            return !(json->failed = true);
    return !json->failed && bpe_model_index(model, json->error);
}

/* Each merge is ["left", "right"], or in older files "left right". */
static bool read_merges(json_pull *json, bpe_model *model)
{
    json_slice left, right;
    json_pull_enter(json, '[');
    while (json_pull_item(json)) {
        bool ok;
        if (json_pull_peek(json) == '"') {
            ok = json_pull_string(json, &left) && bpe_model_add_merge_line(model, left.data, left.length, json->error);
        } else {
            ok = json_pull_enter(json, '[') && json_pull_item(json) && json_pull_string(json, &left) &&
                 json_pull_item(json) && json_pull_string(json, &right) &&
                 bpe_model_add_merge(model, left.data, left.length, right.data, right.length, json->error);
            if (ok && json_pull_item(json)) ok = fail_unsupported(json, "merges three tokens at once");
        }
        if (!ok) {
            json->failed = true;
            return ace_fail(json->error, ACE_ERROR_FORMAT, "merge %zu is not two tokens: the merge list is damaged",
                            model->merge_count);
        }
    }
    return !json->failed;
}

/* A setting of the model that must be absent, null, false, or an empty string. */
static bool read_unset(json_pull *json, const char *what)
{
    bool value = false;
    json_slice string = {0};
    char kind = json_pull_peek(json);
    bool ok = kind == 'n'                  ? json_pull_skip(json)
              : kind == 't' || kind == 'f' ? json_pull_bool(json, &value)
              : kind == '"'                ? json_pull_string(json, &string)
                                           : json_pull_skip(json) && fail_unsupported(json, what);
    return ok && ((!value && string.length == 0) || fail_unsupported(json, what));
}

static bool read_model(json_pull *json, bpe_model *model)
{
    json_slice key, type = {0};
    size_t merges = 0; /* the position of merges that come before the vocabulary */
    bool have_merges = false;
    json_pull_enter(json, '{');
    while (json_pull_key(json, &key)) {
        if (json_slice_is(key, "type")) {
            if (json_pull_string(json, &type) && !json_slice_is(type, "BPE"))
                return fail_unsupported(json, "is not a BPE model");
        } else if (json_slice_is(key, "vocab")) {
            if (!read_vocabulary(json, model)) return false;
        } else if (json_slice_is(key, "merges")) {
            if (have_merges) return fail_unsupported(json, "has two merge lists");
            have_merges = true;
            if (!(model->index ? read_merges(json, model) : later(json, &merges))) return false;
        } else if (json_slice_is(key, "dropout")) {
            read_unset(json, "drops merges at random");
        } else if (json_slice_is(key, "unk_token")) {
            read_unset(json, "has an unknown token");
        } else if (json_slice_is(key, "continuing_subword_prefix") || json_slice_is(key, "end_of_word_suffix")) {
            read_unset(json, "marks the inside or the end of words");
        } else if (json_slice_is(key, "byte_fallback")) {
            read_unset(json, "falls back to bytes");
        } else if (json_slice_is(key, "ignore_merges")) {
            read_unset(json, "takes whole words from the vocabulary");
        } else {
            json_pull_skip(json);
        }
    }
    if (json->failed) return false;
    if (!model->index || !have_merges) return fail_unsupported(json, "has no vocabulary or no merges");
    if (merges == 0) return true;
    json_pull there = at_position(json, merges);
    return read_merges(&there, model) || finished(json, &there);
}

/* ---- added tokens ------------------------------------------------------------------------------------------ */

static bool read_added(json_pull *json, ace_tokenizer *tokenizer)
{
    json_slice key;
    json_pull_enter(json, '[');
    while (json_pull_item(json)) {
        json_slice content = {0};
        int64_t id = -1;
        bool normalized = true, trims = false, value; /* absent "normalized" means true */
        json_pull_enter(json, '{');
        while (json_pull_key(json, &key)) {
            if (json_slice_is(key, "id")) {
                json_pull_integer(json, &id);
            } else if (json_slice_is(key, "content")) {
                json_pull_string(json, &content);
            } else if (json_slice_is(key, "normalized")) {
                json_pull_bool(json, &normalized);
            } else if (json_slice_is(key, "lstrip") || json_slice_is(key, "rstrip") ||
                       json_slice_is(key, "single_word")) {
                if (json_pull_bool(json, &value)) trims |= value;
            } else {
                json_pull_skip(json);
            }
        }
        if (json->failed) return false;
        if (trims) return fail_unsupported(json, "has added tokens that trim the text around them");
        if (!tokenizer_add(tokenizer, id, content.data, content.length, normalized, json->error))
            return !(json->failed = true);
    }
    return !json->failed;
}

/* ---- the file ---------------------------------------------------------------------------------------------- */

static bool read_tokenizer(json_pull *json, ace_tokenizer *tokenizer)
{
    json_slice key;
    size_t added = 0; /* read last: added tokens are checked against the vocabulary */
    bool normalizer = false, pre_tokenizer = false, decoder = false;
    int64_t appended = -1;
    json_pull_enter(json, '{');
    while (json_pull_key(json, &key)) {
        if (json_slice_is(key, "added_tokens"))
            later(json, &added);
        else if (json_slice_is(key, "normalizer"))
            normalizer = read_normalizer(json);
        else if (json_slice_is(key, "pre_tokenizer"))
            pre_tokenizer = read_pre_tokenizer(json);
        else if (json_slice_is(key, "post_processor"))
            read_post_processor(json, &appended);
        else if (json_slice_is(key, "decoder"))
            decoder = read_decoder(json);
        else if (json_slice_is(key, "model"))
            json->failed |= !read_model(json, &tokenizer->model);
        else
            json_pull_skip(json); /* "truncation" and "padding" are the caller's business here */
    }
    if (!json_pull_end(json)) return false;
    if (!normalizer || !pre_tokenizer || !decoder || !tokenizer->model.index)
        return fail_unsupported(json, "lacks a normalizer, pre_tokenizer, decoder or model");
    if (added > 0) {
        json_pull there = at_position(json, added);
        if (!read_added(&there, tokenizer)) return finished(json, &there);
    }
    tokenizer->appended = (int32_t)appended;
    if (appended >= 0 && (appended > BPE_MAX_ID || !tokenizer_token_bytes(tokenizer, (int32_t)appended, NULL)))
        return fail_unsupported(json, "appends a token that it does not have");
    return bpe_model_finish(&tokenizer->model, json->error);
}

/* Reads the n bytes, changing them. */
static ace_tokenizer *open_text(char *text, size_t n, ace_error *error)
{
    size_t offset;
    if (!ace_utf8_valid(text, n, &offset)) {
        ace_fail(error, ACE_ERROR_FORMAT, "not UTF-8 at byte %zu: download the file again", offset);
        return NULL;
    }
    ace_tokenizer *tokenizer = tokenizer_new(error);
    if (!tokenizer) return NULL;
    json_pull json = json_pull_begin(text, n, error);
    if (read_tokenizer(&json, tokenizer)) return tokenizer;
    tokenizer_close(tokenizer);
    return NULL;
}

ace_tokenizer *tokenizer_open_memory(const char *json, size_t n, ace_error *error)
{
    char *copy = ace_calloc(n, 1, "a tokenizer.json", error);
    if (!copy) return NULL;
    memcpy(copy, json, n);
    ace_tokenizer *tokenizer = open_text(copy, n, error);
    free(copy);
    return tokenizer;
}

ace_tokenizer *tokenizer_open_json(const char *path, ace_error *error)
{
    size_t n;
    char *text = ace_read_file(path, MAX_FILE, &n, error);
    if (!text) return NULL;
    ace_tokenizer *tokenizer = open_text(text, n, error);
    free(text);
    if (!tokenizer) ace_fail_in(error, "'%s'", path);
    return tokenizer;
}
