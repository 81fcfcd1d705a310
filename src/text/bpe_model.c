#include "text/bpe_model.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- lists ------------------------------------------------------------------------------------------------- */

/* Makes room for `need` elements of `size` bytes in *block; *capacity grows by half at least. */
static bool reserve(void **block, size_t *capacity, size_t need, size_t size, const char *what, ace_error *error)
{
    if (need <= *capacity) return true;
    size_t grown_capacity = need + need / 2 + 16;
    void *grown = ace_realloc(*block, grown_capacity, size, what, error);
    if (!grown) return false;
    *block = grown;
    *capacity = grown_capacity;
    return true;
}

bool ace_ids_append(ace_ids *ids, int32_t id, ace_error *error)
{
    if (ids->count == ids->capacity) {
        void *data = ids->data;
        if (!reserve(&data, &ids->capacity, ids->count + 1, sizeof *ids->data, "token ids", error)) return false;
        ids->data = data;
    }
    ids->data[ids->count++] = id;
    return true;
}

void ace_ids_free(ace_ids *ids)
{
    free(ids->data);
    *ids = (ace_ids){0};
}

/* ---- building ---------------------------------------------------------------------------------------------- */

/* The byte that a code point of the byte alphabet stands for, -1 when it is not one of the 256. The printable bytes of
 * Latin-1 stand for themselves; the other 68 are, in order, U+0100 to U+0143. */
static int byte_of_symbol(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff)) return (int)c;
    if (c < 0x100 || c > 0x143) return -1;
    int k = (int)c - 0x100;
    if (k <= 0x20) return k;
    if (k == 0x21) return 0x7f;
    return k <= 0x42 ? 0x80 + (k - 0x22) : 0xad;
}

ptrdiff_t bpe_symbols_to_bytes(const char *symbols, size_t n, char *out)
{
    ptrdiff_t length = 0;
    for (size_t at = 0; at < n;) {
        int byte = byte_of_symbol(unicode_next(symbols, &at));
        if (byte < 0) return -1;
        if (out) out[length] = (char)byte;
        length++;
    }
    return length;
}

bool bpe_model_add_token(bpe_model *model, int64_t id, const char *symbols, size_t n, ace_error *error)
{
    if (id < 0 || id > BPE_MAX_ID)
        return ace_fail(error, ACE_ERROR_FORMAT, "token id %lld is not between 0 and %d: the vocabulary is damaged",
                        (long long)id, BPE_MAX_ID);
    if (n == 0)
        return ace_fail(error, ACE_ERROR_MODEL, "token %d is empty: only byte-level vocabularies can be read", (int)id);
    if (n > UINT32_MAX / 4 - model->bytes_used)
        return ace_fail(error, ACE_ERROR_FORMAT, "the vocabulary has more than 1 GiB of text: it is damaged");
    size_t slot = (size_t)id;
    void *tokens = model->tokens, *bytes = model->bytes;
    bool ok = reserve(&tokens, &model->token_capacity, slot + 1, sizeof *model->tokens, "the vocabulary", error);
    model->tokens = tokens;
    ok = ok && reserve(&bytes, &model->bytes_capacity, model->bytes_used + n, 1, "the vocabulary", error);
    model->bytes = bytes;
    if (!ok) return false;
    while (model->token_limit <= slot) model->tokens[model->token_limit++] = (bpe_token){0};
    if (model->tokens[slot].length > 0)
        return ace_fail(error, ACE_ERROR_FORMAT, "token id %zu is used twice: the vocabulary is damaged", slot);
    ptrdiff_t length = bpe_symbols_to_bytes(symbols, n, model->bytes + model->bytes_used);
    if (length < 0)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "token %zu ('%.*s') is not in the byte alphabet: only byte-level vocabularies can be read",
                        slot, unicode_excerpt(symbols, n), symbols);
    model->tokens[slot] = (bpe_token){(uint32_t)model->bytes_used, (uint32_t)length};
    model->bytes_used += (size_t)length;
    model->token_count++;
    return true;
}

/* The smallest 2^k - 1 that leaves a third of a table of `count` entries empty. */
static size_t mask_for(size_t count)
{
    size_t mask = 15;
    while (mask / 3 * 2 < count) mask = mask * 2 + 1;
    return mask;
}

/* The slot where the bytes are or would be. */
static size_t find_slot(const bpe_model *model, const char *bytes, size_t n)
{
    size_t slot = XXH3_64bits(bytes, n) & model->index_mask;
    for (; model->index[slot] >= 0; slot = (slot + 1) & model->index_mask) {
        bpe_token token = model->tokens[model->index[slot]];
        if (token.length == n && memcmp(model->bytes + token.at, bytes, n) == 0) break;
    }
    return slot;
}

bool bpe_model_index(bpe_model *model, ace_error *error)
{
    model->index_mask = mask_for(model->token_count);
    model->index = ace_calloc(model->index_mask + 1, sizeof *model->index, "the vocabulary's index", error);
    if (!model->index) return false;
    memset(model->index, -1, (model->index_mask + 1) * sizeof *model->index);
    for (size_t id = 0; id < model->token_limit; id++) {
        bpe_token token = model->tokens[id];
        if (token.length == 0) continue;
        size_t slot = find_slot(model, model->bytes + token.at, token.length);
        if (model->index[slot] >= 0)
            return ace_fail(error, ACE_ERROR_FORMAT, "tokens %d and %zu are the same: the vocabulary is damaged",
                            (int)model->index[slot], id);
        model->index[slot] = (int32_t)id;
    }
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        model->byte_ids[byte] = bpe_model_find(model, &c, 1);
        if (model->byte_ids[byte] < 0)
            return ace_fail(error, ACE_ERROR_MODEL,
                            "the vocabulary has no token for byte 0x%02X: only byte-level vocabularies can be read",
                            (unsigned)byte);
    }
    return true;
}

int32_t bpe_model_find(const bpe_model *model, const char *bytes, size_t n)
{
    return model->index[find_slot(model, bytes, n)];
}

static bool fail_merge(size_t rank, const char *why, ace_error *error)
{
    return ace_fail(error, ACE_ERROR_FORMAT, "merge %zu %s: the merge list is damaged", rank, why);
}

bool bpe_model_add_merge(bpe_model *model, const char *left, size_t left_n, const char *right, size_t right_n,
                         ace_error *error)
{
    size_t rank = model->merge_count;
    if (rank >= BPE_MAX_MERGES) return fail_merge(rank, "is one too many", error);
    if (left_n + right_n > UINT32_MAX / 4) return fail_merge(rank, "is too long", error);
    void *merges = model->merges, *bytes = model->bytes;
    bool ok = reserve(&merges, &model->merge_capacity, rank + 1, sizeof *model->merges, "the merge list", error);
    model->merges = merges;
    /* the free end of `bytes` is where the two halves are put together to look them up */
    ok = ok && reserve(&bytes, &model->bytes_capacity, model->bytes_used + left_n + right_n, 1, "a merge", error);
    model->bytes = bytes;
    if (!ok) return false;
    char *joined = model->bytes + model->bytes_used;
    ptrdiff_t left_length = bpe_symbols_to_bytes(left, left_n, joined);
    if (left_length <= 0) return fail_merge(rank, "has a left half that is not in the byte alphabet", error);
    ptrdiff_t right_length = bpe_symbols_to_bytes(right, right_n, joined + left_length);
    if (right_length <= 0) return fail_merge(rank, "has a right half that is not in the byte alphabet", error);
    bpe_merge merge = {bpe_model_find(model, joined, (size_t)left_length),
                       bpe_model_find(model, joined + left_length, (size_t)right_length),
                       bpe_model_find(model, joined, (size_t)(left_length + right_length))};
    if (merge.left < 0 || merge.right < 0 || merge.result < 0)
        return fail_merge(rank, "names a token that is not in the vocabulary", error);
    model->merges[model->merge_count++] = merge;
    return true;
}

bool bpe_model_add_merge_line(bpe_model *model, const char *line, size_t n, ace_error *error)
{
    const char *space = memchr(line, ' ', n);
    size_t left = space ? (size_t)(space - line) : 0;
    if (!space || memchr(space + 1, ' ', n - left - 1))
        return fail_merge(model->merge_count, "is not two tokens with a space between them", error);
    return bpe_model_add_merge(model, line, left, space + 1, n - left - 1, error);
}

/* ---- the merge table --------------------------------------------------------------------------------------- */

/* The slot where the pair is or would be. */
static const bpe_slot *find_pair(const bpe_model *model, int32_t left, int32_t right)
{
    uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    for (size_t slot = (size_t)(hash >> 32) & model->slot_mask;; slot = (slot + 1) & model->slot_mask) {
        const bpe_slot *s = model->slots + slot;
        if (s->left < 0 || (s->left == left && s->right == right)) return s;
    }
}

bool bpe_model_finish(bpe_model *model, ace_error *error)
{
    model->slot_mask = mask_for(model->merge_count);
    model->slots = ace_calloc(model->slot_mask + 1, sizeof *model->slots, "the merge table", error);
    if (!model->slots) return false;
    memset(model->slots, -1, (model->slot_mask + 1) * sizeof *model->slots);
    for (size_t rank = 0; rank < model->merge_count; rank++) {
        bpe_merge merge = model->merges[rank];
        bpe_slot *slot = model->slots + (find_pair(model, merge.left, merge.right) - model->slots);
        if (slot->left >= 0) return fail_merge(rank, "repeats an earlier one", error);
        *slot = (bpe_slot){merge.left, merge.right, (int32_t)rank, merge.result};
    }
    free(model->merges);
    free(model->index);
    model->merges = NULL;
    model->index = NULL;
    return true;
}

void bpe_model_free(bpe_model *model)
{
    free(model->bytes);
    free(model->tokens);
    free(model->merges);
    free(model->index);
    free(model->slots);
    *model = (bpe_model){0};
}

/* ---- encoding ---------------------------------------------------------------------------------------------- */

void bpe_scratch_free(bpe_scratch *scratch)
{
    free(scratch->id);
    free(scratch->heap);
    *scratch = (bpe_scratch){0};
}

static bool scratch_reserve(bpe_scratch *scratch, size_t n, ace_error *error)
{
    if (n <= scratch->capacity) return true;
    bpe_scratch_free(scratch);
    size_t capacity = n < 256 ? 256 : n;
    /* a merge takes one candidate off the heap and adds at most two, and there are fewer than n merges */
    scratch->id = ace_calloc(3 * capacity, sizeof *scratch->id, "a piece of text", error);
    scratch->heap = ace_calloc(2 * capacity, sizeof *scratch->heap, "a piece of text", error);
    if (!scratch->id || !scratch->heap) {
        bpe_scratch_free(scratch);
        return false;
    }
    scratch->previous = scratch->id + capacity;
    scratch->next = scratch->previous + capacity;
    scratch->capacity = capacity;
    return true;
}

static void heap_push(bpe_scratch *scratch, uint64_t candidate)
{
    size_t i = scratch->heap_count++;
    for (; i > 0 && scratch->heap[(i - 1) / 2] > candidate; i = (i - 1) / 2)
        scratch->heap[i] = scratch->heap[(i - 1) / 2];
    scratch->heap[i] = candidate;
}

static uint64_t heap_pop(bpe_scratch *scratch)
{
    uint64_t *heap = scratch->heap, top = heap[0], moved = heap[--scratch->heap_count];
    size_t i = 0, n = scratch->heap_count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= moved) break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
    return top;
}

/* Makes the token at `position` and its successor a candidate when they can be merged. */
static void propose(const bpe_model *model, bpe_scratch *scratch, int32_t position)
{
    int32_t next = position < 0 ? -1 : scratch->next[position];
    if (next < 0) return;
    const bpe_slot *slot = find_pair(model, scratch->id[position], scratch->id[next]);
    if (slot->left >= 0) heap_push(scratch, (uint64_t)slot->rank << 32 | (uint32_t)position);
}

bool bpe_encode_piece(const bpe_model *model, const char *piece, size_t n, bpe_scratch *scratch, ace_ids *ids,
                      ace_error *error)
{
    if (n == 1) return ace_ids_append(ids, model->byte_ids[(unsigned char)piece[0]], error);
    if (n > INT32_MAX / 4)
        return ace_fail(error, ACE_ERROR_USAGE, "a word of %zu bytes is too long: put spaces between words", n);
    if (!scratch_reserve(scratch, n, error)) return false;
    int32_t *id = scratch->id, *previous = scratch->previous, *next = scratch->next;
    for (size_t i = 0; i < n; i++) {
        id[i] = model->byte_ids[(unsigned char)piece[i]];
        previous[i] = (int32_t)i - 1;
        next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    scratch->heap_count = 0;
    for (size_t i = 0; i + 1 < n; i++) propose(model, scratch, (int32_t)i);
    while (scratch->heap_count > 0) {
        uint64_t candidate = heap_pop(scratch);
        int32_t left = (int32_t)(uint32_t)candidate;
        int32_t right = id[left] < 0 ? -1 : next[left];
        if (right < 0) continue;
        const bpe_slot *slot = find_pair(model, id[left], id[right]);
        if (slot->left < 0 || (uint64_t)slot->rank != candidate >> 32) continue; /* the pair has changed since */
        id[left] = slot->result;
        id[right] = -1;
        next[left] = next[right];
        if (next[left] >= 0) previous[next[left]] = left;
        propose(model, scratch, previous[left]);
        propose(model, scratch, left);
    }
    for (int32_t i = 0; i >= 0; i = next[i])
        if (!ace_ids_append(ids, id[i], error)) return false;
    return true;
}
