#include "formats/shards.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "formats/json.h"

#include <stdlib.h>
#include <string.h>

enum { INDEX_LIMIT = 64 << 20, INDEX_DEPTH = 16, MAX_SHARDS = 1000 };

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A name that stays in its directory. */
static bool plain_name(const char *name)
{
    return name[0] && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

/* The shard beside the index, as a path; caller frees. */
static char *shard_path(const char *index_path, const char *name, ace_error *error)
{
    const char *slash = strrchr(index_path, '/');
    size_t n = slash ? (size_t)(slash - index_path) + 1 : 0, length = strlen(name);
    char *path = ace_calloc(n + length + 1, 1, "a path", error);
    if (!path) return NULL;
    memcpy(path, index_path, n);
    memcpy(path + n, name, length);
    return path;
}

/* Fills shards with the distinct files of the map, sorted. */
static bool collect_shards(shard_index *index, const json_t *map, const char *path, ace_error *error)
{
    const char *tensor;
    json_t *file;
    const char **names = ace_calloc(json_object_size(map), sizeof *names, "an index", error);
    index->shards = ace_calloc(json_object_size(map), sizeof *index->shards, "an index", error);
    bool ok = names && index->shards;
    size_t count = 0;
    if (ok) {
        json_object_foreach((json_t *)(uintptr_t)map, tensor, file)
        {
            const char *name = json_string_value(file);
            if (name && plain_name(name))
                names[count++] = name;
            else
                ok = ace_fail(error, ACE_ERROR_FORMAT,
                              "%s: the file of tensor \"%s\" must be the plain name of a file beside the index", path,
                              tensor);
        }
    }
    if (ok && count) qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; ok && i < count; i++) {
        if (i > 0 && strcmp(names[i], names[i - 1]) == 0) continue;
        if (index->shard_count == MAX_SHARDS) {
            ok = ace_fail(error, ACE_ERROR_FORMAT, "%s: more than %d files", path, MAX_SHARDS);
            break;
        }
        index->shards[index->shard_count] = shard_path(path, names[i], error);
        ok = index->shards[index->shard_count] != NULL;
        if (ok) index->shard_count++;
    }
    free(names);
    return ok;
}

static size_t find_shard(const shard_index *index, const char *name)
{
    for (size_t i = 0; i < index->shard_count; i++) {
        const char *slash = strrchr(index->shards[i], '/');
        if (strcmp(slash ? slash + 1 : index->shards[i], name) == 0) return i;
    }
    return 0;
}

bool shard_index_read(shard_index *index, const char *path, ace_error *error)
{
    *index = (shard_index){0};
    json_t *root = json_parse_file(path, INDEX_LIMIT, INDEX_DEPTH, error);
    if (!root) return false;
    const json_t *map = NULL;
    bool ok = json_get_object(root, path, "weight_map", &map, error);
    if (ok && (!map || json_object_size(map) == 0))
        ok = ace_fail(error, ACE_ERROR_FORMAT, "%s: an index of shards needs a \"weight_map\" with tensors", path);
    ok = ok && collect_shards(index, map, path, error);
    if (ok) index->entries = ace_calloc(json_object_size(map), sizeof *index->entries, "an index", error);
    ok = ok && index->entries;
    if (ok) {
        const char *tensor;
        json_t *file;
        json_object_foreach((json_t *)(uintptr_t)map, tensor, file)
        {
            shard_entry *entry = &index->entries[index->count];
            if (ok) entry->tensor = ace_strdup(tensor, error);
            ok = ok && entry->tensor;
            if (!ok) break;
            entry->shard = find_shard(index, json_string_value(file));
            index->count++;
        }
    }
    json_decref(root);
    if (!ok) shard_index_free(index);
    return ok;
}

void shard_index_free(shard_index *index)
{
    for (size_t i = 0; i < index->shard_count; i++) free(index->shards[i]);
    for (size_t i = 0; i < index->count; i++) free(index->entries[i].tensor);
    free(index->shards);
    free(index->entries);
    *index = (shard_index){0};
}
