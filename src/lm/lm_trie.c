#include "lm/lm_trie.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

static bool new_node(lm_trie *trie, int32_t token, uint32_t *node, ace_error *error)
{
    if (trie->count == trie->capacity) {
        size_t capacity = trie->capacity ? 2 * trie->capacity : 64;
        if (capacity > INT32_MAX) return ace_fail(error, ACE_ERROR_USAGE, "a field has too many values");
        lm_trie_node *nodes = ace_realloc(trie->nodes, capacity, sizeof *nodes, "the values of a field", error);
        if (!nodes) return false;
        trie->nodes = nodes;
        trie->capacity = capacity;
    }
    *node = (uint32_t)trie->count++;
    trie->nodes[*node] = (lm_trie_node){.token = token};
    return true;
}

static uint32_t find_child(const lm_trie *trie, uint32_t node, int32_t token)
{
    uint32_t child = trie->nodes[node].child;
    while (child != 0 && trie->nodes[child].token != token) child = trie->nodes[child].sibling;
    return child;
}

bool lm_trie_add(lm_trie *trie, const int32_t *tokens, size_t count, ace_error *error)
{
    uint32_t node = LM_TRIE_ROOT;
    if (trie->count == 0 && !new_node(trie, -1, &node, error)) return false;
    for (size_t i = 0; i < count; i++) {
        uint32_t child = find_child(trie, node, tokens[i]);
        if (child == 0) {
            if (!new_node(trie, tokens[i], &child, error)) return false;
            trie->nodes[child].sibling = trie->nodes[node].child;
            trie->nodes[node].child = child;
        }
        node = child;
    }
    trie->nodes[node].complete = true;
    return true;
}

static int by_id(const void *a, const void *b)
{
    int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;
    return (left > right) - (left < right);
}

bool lm_trie_finish(lm_trie *trie, int32_t terminator, ace_error *error)
{
    uint32_t root;
    if (trie->count == 0 && !new_node(trie, -1, &root, error)) return false;
    /* Every node but the root is one node's child, and every node may end a value: at most two ids for each node. */
    trie->ranges = ace_calloc(2 * trie->count, sizeof *trie->ranges, "the values of a field", error);
    int32_t *ids = ace_calloc(trie->count + 1, sizeof *ids, "the values of a field", error);
    if (!trie->ranges || !ids) {
        free(ids);
        return false;
    }
    size_t used = 0;
    for (size_t i = 0; i < trie->count; i++) {
        lm_trie_node *node = &trie->nodes[i];
        size_t n = 0;
        if (node->complete) ids[n++] = terminator;
        for (uint32_t child = node->child; child != 0; child = trie->nodes[child].sibling)
            ids[n++] = trie->nodes[child].token;
        qsort(ids, n, sizeof *ids, by_id);
        node->set_at = (uint32_t)used;
        for (size_t k = 0; k < n; k++) {
            if (used > node->set_at && trie->ranges[used - 1].end == ids[k])
                trie->ranges[used - 1].end = ids[k] + 1;
            else
                trie->ranges[used++] = (lm_token_range){ids[k], ids[k] + 1};
        }
        node->set_count = (uint32_t)(used - node->set_at);
    }
    free(ids);
    return true;
}

void lm_trie_free(lm_trie *trie)
{
    free(trie->nodes);
    free(trie->ranges);
    *trie = (lm_trie){0};
}

lm_token_set lm_trie_allowed(const lm_trie *trie, uint32_t node)
{
    if (node >= trie->count) return (lm_token_set){0};
    return (lm_token_set){trie->ranges + trie->nodes[node].set_at, trie->nodes[node].set_count};
}

uint32_t lm_trie_step(const lm_trie *trie, uint32_t node, int32_t token)
{
    uint32_t child = node < trie->count ? find_child(trie, node, token) : 0;
    return child != 0 ? child : LM_TRIE_NOWHERE;
}
