#include "text/tokenizer.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/pretokenize.h"
#include "text/unicode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char audio_prefix[] = "<|audio_code_", audio_suffix[] = "|>";

enum { AUDIO_PREFIX_LENGTH = sizeof audio_prefix - 1, AUDIO_SUFFIX_LENGTH = sizeof audio_suffix - 1 };

ace_tokenizer *tokenizer_new(ace_error *error)
{
    ace_tokenizer *tokenizer = ace_calloc(1, sizeof *tokenizer, "a tokenizer", error);
    if (tokenizer) tokenizer->audio_first = tokenizer->appended = -1;
    return tokenizer;
}

void tokenizer_close(ace_tokenizer *tokenizer)
{
    if (!tokenizer) return;
    for (size_t i = 0; i < tokenizer->added_count; i++) free(tokenizer->added[i].literal);
    free(tokenizer->added);
    bpe_model_free(&tokenizer->model);
    free(tokenizer);
}

/* ---- added tokens ------------------------------------------------------------------------------------------ */

/* Bytes of the "<|audio_code_N|>" that the text starts with, N in canonical decimal below `limit`; 0 when it is none.
 */
static size_t audio_literal(const char *text, size_t n, int32_t limit, int32_t *number)
{
    if (n <= AUDIO_PREFIX_LENGTH || memcmp(text, audio_prefix, AUDIO_PREFIX_LENGTH) != 0) return 0;
    size_t first = AUDIO_PREFIX_LENGTH, at = first;
    int32_t value = 0;
    for (; at < n && text[at] >= '0' && text[at] <= '9'; at++) {
        if (at > first && text[first] == '0') return 0;
        value = value * 10 + (text[at] - '0');
        if (value >= limit) return 0;
    }
    if (at == first || n - at < AUDIO_SUFFIX_LENGTH || memcmp(text + at, audio_suffix, AUDIO_SUFFIX_LENGTH) != 0)
        return 0;
    *number = value;
    return at + AUDIO_SUFFIX_LENGTH;
}

static const added_token *added_by_id(const ace_tokenizer *tokenizer, int32_t id)
{
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].id == id) return &tokenizer->added[i];
    return NULL;
}

static bool is_audio(const ace_tokenizer *tokenizer, int32_t id)
{
    return tokenizer->audio_count > 0 && id >= tokenizer->audio_first &&
           id - tokenizer->audio_first < tokenizer->audio_count;
}

static bool id_taken(const ace_tokenizer *tokenizer, int32_t id)
{
    return tokenizer_token_bytes(tokenizer, id, NULL) || is_audio(tokenizer, id);
}

bool tokenizer_set_audio_codes(ace_tokenizer *tokenizer, int32_t first, int32_t count, ace_error *error)
{
    if (first == tokenizer->audio_first && count == tokenizer->audio_count) return true;
    if (tokenizer->audio_count > 0)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the tokenizer file has %" PRId32 " audio codes from id %" PRId32 ", not %" PRId32
                        " from id %" PRId32 ": use the tokenizer that came with the checkpoint",
                        tokenizer->audio_count, tokenizer->audio_first, count, first);
    if (first < 0 || count <= 0 || count - 1 > BPE_MAX_ID - first)
        return ace_fail(error, ACE_ERROR_USAGE, "%" PRId32 " audio codes from id %" PRId32 " are not possible", count,
                        first);
    for (int32_t id = first; id < first + count; id++)
        if (id_taken(tokenizer, id))
            return ace_fail(error, ACE_ERROR_MODEL,
                            "token %" PRId32
                            " cannot be an audio code, it has another meaning: use the tokenizer that came with the "
                            "checkpoint",
                            id);
    tokenizer->audio_first = first;
    tokenizer->audio_count = count;
    return true;
}

static bool fail_added(int64_t id, const char *literal, size_t length, const char *why, ace_error *error)
{
    return ace_fail(error, ACE_ERROR_FORMAT, "added token %lld ('%.*s') %s: the tokenizer file is damaged",
                    (long long)id, unicode_excerpt(literal, length), literal, why);
}

/* The codes are listed in order of N, which also is the order of ids; one comparison each keeps opening fast. */
static bool add_audio(ace_tokenizer *tokenizer, int64_t id, int32_t number, bool normalized, ace_error *error)
{
    if (number == 0 && tokenizer->audio_count == 0) {
        tokenizer->audio_first = (int32_t)id;
        tokenizer->audio_normalized = normalized;
    }
    if (number != tokenizer->audio_count || id != (int64_t)tokenizer->audio_first + number ||
        normalized != tokenizer->audio_normalized)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "<|audio_code_%" PRId32 "|> has id %lld, but the audio codes must follow each other without "
                        "gaps: the tokenizer file is damaged",
                        number, (long long)id);
    tokenizer->audio_count++;
    return true;
}

bool tokenizer_add(ace_tokenizer *tokenizer, int64_t id, const char *literal, size_t length, bool normalized,
                   ace_error *error)
{
    if (id < 0 || id > BPE_MAX_ID) return fail_added(id, literal, length, "has an impossible id", error);
    if (length == 0) return fail_added(id, literal, length, "is empty", error);
    int32_t token = (int32_t)id, number;
    if (is_audio(tokenizer, token) || added_by_id(tokenizer, token))
        return fail_added(id, literal, length, "has an id that is used twice", error);
    size_t base_length = 0;
    const char *base = tokenizer_token_bytes(tokenizer, token, &base_length);
    if (base && (base_length != length || memcmp(base, literal, length) != 0))
        return fail_added(id, literal, length, "has the id of another token", error);
    int32_t same = bpe_model_find(&tokenizer->model, literal, length);
    if (same >= 0 && same != token) return fail_added(id, literal, length, "has another id in the vocabulary", error);
    if (audio_literal(literal, length, BPE_MAX_ID, &number) == length)
        return add_audio(tokenizer, id, number, normalized, error);
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].length == length && memcmp(tokenizer->added[i].literal, literal, length) == 0)
            return fail_added(id, literal, length, "appears twice", error);
    for (size_t i = 0; normalized && i < length; i++)
        if ((unsigned char)literal[i] >= 0x80)
            return ace_fail(error, ACE_ERROR_MODEL,
                            "added token %lld has \"normalized\": true and is not ASCII: such tokens cannot be read",
                            (long long)id);
    if (tokenizer->added_count == TOKENIZER_MAX_ADDED) return fail_added(id, literal, length, "is one too many", error);
    added_token *grown =
        ace_realloc(tokenizer->added, tokenizer->added_count + 1, sizeof *grown, "the added tokens", error);
    if (!grown) return false;
    tokenizer->added = grown;
    char *copy = ace_calloc(length, 1, "an added token", error);
    if (!copy) return false;
    memcpy(copy, literal, length);
    tokenizer->added[tokenizer->added_count++] = (added_token){copy, length, token, normalized};
    tokenizer->any_normalized |= normalized;
    return true;
}

/* The longest added token of the given kind that the n >= 1 bytes start with; returns its length, 0 for none. */
static size_t match_added(const ace_tokenizer *tokenizer, bool normalized, const char *text, size_t n, int32_t *id)
{
    size_t longest = 0;
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const added_token *added = &tokenizer->added[i];
        if (added->literal[0] == text[0] && added->normalized == normalized && added->length > longest &&
            added->length <= n && memcmp(added->literal, text, added->length) == 0) {
            longest = added->length;
            *id = added->id;
        }
    }
    int32_t number;
    if (tokenizer->audio_count > 0 && tokenizer->audio_normalized == normalized) {
        size_t length = audio_literal(text, n, tokenizer->audio_count, &number);
        if (length > longest) {
            longest = length;
            *id = tokenizer->audio_first + number;
        }
    }
    return longest;
}

/* ---- encoding ---------------------------------------------------------------------------------------------- */

typedef struct encoding {
    const ace_tokenizer *tokenizer;
    bpe_scratch scratch;
    ace_text normal; /* of the stretch at hand */
    ace_ids *ids;
    ace_error *error;
} encoding;

static bool encode_pieces(encoding *e, const char *text, size_t n)
{
    for (size_t at = 0, end; at < n; at = end) {
        end = pretokenize_next(text, n, at);
        if (!bpe_encode_piece(&e->tokenizer->model, text + at, end - at, &e->scratch, e->ids, e->error)) return false;
    }
    return true;
}

/* Cuts the text at the added tokens of one kind and hands what is between them to `stretch`. */
static bool split_added(encoding *e, bool normalized, const char *text, size_t n,
                        bool (*stretch)(encoding *e, const char *text, size_t n))
{
    bool starts[256] = {false};
    const ace_tokenizer *tokenizer = e->tokenizer;
    for (size_t i = 0; i < tokenizer->added_count; i++)
        starts[(unsigned char)tokenizer->added[i].literal[0]] |= tokenizer->added[i].normalized == normalized;
    starts[(unsigned char)audio_prefix[0]] |= tokenizer->audio_count > 0 && tokenizer->audio_normalized == normalized;
    size_t begin = 0;
    for (size_t at = 0; at < n;) {
        int32_t id = -1;
        size_t length =
            starts[(unsigned char)text[at]] ? match_added(tokenizer, normalized, text + at, n - at, &id) : 0;
        if (length == 0) {
            at++;
            continue;
        }
        if (at > begin && !stretch(e, text + begin, at - begin)) return false;
        if (!ace_ids_append(e->ids, id, e->error)) return false;
        begin = at += length;
    }
    return begin == n || stretch(e, text + begin, n - begin);
}

static bool encode_stretch(encoding *e, const char *text, size_t n)
{
    if (!unicode_surely_nfc(text, n)) {
        e->normal.length = 0;
        if (!unicode_nfc(text, n, &e->normal, e->error)) return false;
        text = e->normal.data;
        n = e->normal.length;
    }
    const ace_tokenizer *tokenizer = e->tokenizer;
    if (tokenizer->any_normalized || (tokenizer->audio_count > 0 && tokenizer->audio_normalized))
        return split_added(e, true, text, n, encode_pieces);
    return encode_pieces(e, text, n);
}

bool tokenizer_encode(const ace_tokenizer *tokenizer, const char *text, size_t n, ace_ids *ids, ace_error *error)
{
    size_t offset;
    if (!ace_utf8_valid(text, n, &offset))
        return ace_fail(error, ACE_ERROR_USAGE, "the text is not UTF-8 at byte %zu: save it as UTF-8", offset);
    size_t before = ids->count;
    encoding e = {.tokenizer = tokenizer, .ids = ids, .error = error};
    bool ok = split_added(&e, false, text, n, encode_stretch);
    bpe_scratch_free(&e.scratch);
    ace_text_free(&e.normal);
    if (!ok) ids->count = before;
    return ok;
}

bool tokenizer_encode_prompt(const ace_tokenizer *tokenizer, const char *text, size_t n, size_t max_tokens,
                             ace_ids *ids, ace_error *error)
{
    int32_t last = tokenizer->appended >= 0 ? tokenizer->appended : tokenizer_added(tokenizer, "<|endoftext|>");
    if (last < 0)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the tokenizer has no <|endoftext|>: use the one that came with the text encoder");
    if (max_tokens == 0) return ace_fail(error, ACE_ERROR_USAGE, "a prompt of at most 0 tokens is not possible");
    size_t before = ids->count;
    if (!tokenizer_encode(tokenizer, text, n, ids, error)) return false;
    if (ids->count - before > max_tokens - 1) ids->count = before + max_tokens - 1;
    bool ok = ace_ids_append(ids, last, error);
    if (!ok) ids->count = before;
    return ok;
}

/* ---- decoding ---------------------------------------------------------------------------------------------- */

const char *tokenizer_token_bytes(const ace_tokenizer *tokenizer, int32_t id, size_t *length)
{
    const bpe_model *model = &tokenizer->model;
    if (id >= 0 && (size_t)id < model->token_limit && model->tokens[id].length > 0) {
        if (length) *length = model->tokens[id].length;
        return model->bytes + model->tokens[id].at;
    }
    const added_token *added = added_by_id(tokenizer, id);
    if (added && length) *length = added->length;
    return added ? added->literal : NULL;
}

bool tokenizer_decode(const ace_tokenizer *tokenizer, const int32_t *ids, size_t count, ace_text *text,
                      ace_error *error)
{
    ace_text bytes = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        size_t length = 0;
        const char *token = tokenizer_token_bytes(tokenizer, ids[i], &length);
        if (token)
            ace_text_bytes(&bytes, token, length);
        else if (is_audio(tokenizer, ids[i]))
            ace_text_format(&bytes, "%s%" PRId32 "%s", audio_prefix, ids[i] - tokenizer->audio_first, audio_suffix);
        else
            ok = ace_fail(error, ACE_ERROR_USAGE, "token %" PRId32 " (number %zu of %zu) does not exist", ids[i], i,
                          count);
    }
    if (ok && !bytes.failed) unicode_append_lossy(bytes.data, bytes.length, text);
    if (ok && (bytes.failed || text->failed)) ok = ace_fail_memory(error, "decoded text", bytes.length);
    ace_text_free(&bytes);
    return ok;
}

/* ---- facts ------------------------------------------------------------------------------------------------- */

int32_t tokenizer_audio_first(const ace_tokenizer *tokenizer)
{
    return tokenizer->audio_first;
}

int32_t tokenizer_audio_count(const ace_tokenizer *tokenizer)
{
    return tokenizer->audio_count;
}

int32_t tokenizer_limit(const ace_tokenizer *tokenizer)
{
    int32_t limit = (int32_t)tokenizer->model.token_limit;
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].id >= limit) limit = tokenizer->added[i].id + 1;
    int32_t audio_limit = tokenizer->audio_first + tokenizer->audio_count;
    return tokenizer->audio_count > 0 && audio_limit > limit ? audio_limit : limit;
}

int32_t tokenizer_added(const ace_tokenizer *tokenizer, const char *literal)
{
    size_t length = strlen(literal);
    int32_t id = -1;
    for (int kind = 0; kind < 2 && length > 0; kind++)
        if (match_added(tokenizer, kind == 1, literal, length, &id) == length) return id;
    return -1;
}

int32_t tokenizer_appended(const ace_tokenizer *tokenizer)
{
    return tokenizer->appended;
}
