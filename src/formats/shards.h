/* shards.h - the index of a checkpoint that is split over several safetensors files ("*.safetensors.index.json"). */
#ifndef ACE_FORMATS_SHARDS_H
#define ACE_FORMATS_SHARDS_H

#include <acestep.h>

typedef struct shard_entry {
    char *tensor;
    size_t shard; /* index into shards */
} shard_entry;

typedef struct shard_index {
    char **shards; /* paths, sorted, each once */
    size_t shard_count;
    shard_entry *entries;
    size_t count;
} shard_index;

/* Reads {"weight_map": {tensor: file}}. Files must be plain names in the directory of the index: a path that leads
 * anywhere else is refused. Nothing is left to free after a failure. */
bool shard_index_read(shard_index *index, const char *path, ace_error *error);
void shard_index_free(shard_index *index);

#endif
