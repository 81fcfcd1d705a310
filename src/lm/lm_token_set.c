#include "lm/lm_token_set.h"

bool lm_token_set_contains(lm_token_set set, int32_t id)
{
    size_t low = 0, high = set.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (id >= set.ranges[middle].end)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set.count && id >= set.ranges[low].first;
}

int64_t lm_token_set_size(lm_token_set set)
{
    int64_t size = 0;
    for (size_t i = 0; i < set.count; i++) size += set.ranges[i].end - set.ranges[i].first;
    return size;
}

lm_token_set lm_token_set_from_bits(const uint64_t *words, int32_t limit, lm_token_range *ranges)
{
    size_t count = 0;
    for (int32_t id = 0; id < limit; id++) {
        uint64_t word = words[id / 64] >> (id % 64);
        if (word == 0) {
            id |= 63;
            continue;
        }
        id += __builtin_ctzll(word);
        if (id >= limit) break;
        if (count > 0 && ranges[count - 1].end == id)
            ranges[count - 1].end = id + 1;
        else
            ranges[count++] = (lm_token_range){id, id + 1};
    }
    return (lm_token_set){ranges, count};
}
