/* random_text.h - the random strings of tools/reference/make_tokenizer_goldens.py: every draw is the same. */
#ifndef ACE_TESTS_RANDOM_TEXT_H
#define ACE_TESTS_RANDOM_TEXT_H

#include "base/text.h"

#include <stdio.h>
#include <string.h>

enum { RANDOM_MIXES = 7, RANDOM_MAX_RANGES = 1024 };

typedef struct random_range {
    unsigned first, last;
} random_range;

/* The code points to draw from, read from ranges.txt. */
typedef struct random_ranges {
    random_range assigned[RANDOM_MAX_RANGES], marks[RANDOM_MAX_RANGES];
    unsigned assigned_count, mark_count;
} random_ranges;

static inline bool random_ranges_read(random_ranges *ranges, const char *path)
{
    *ranges = (random_ranges){0};
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char kind[16];
    random_range range;
    while (fscanf(file, "%15s %x %x", kind, &range.first, &range.last) == 3) {
        if (strcmp(kind, "assigned") == 0 && ranges->assigned_count < RANDOM_MAX_RANGES)
            ranges->assigned[ranges->assigned_count++] = range;
        else if (strcmp(kind, "mark") == 0 && ranges->mark_count < RANDOM_MAX_RANGES)
            ranges->marks[ranges->mark_count++] = range;
    }
    fclose(file);
    return ranges->assigned_count > 0 && ranges->mark_count > 0;
}

/* SplitMix64 (Steele, Lea, Flood 2014), a number below n. */
static inline unsigned random_below(uint64_t *state, unsigned n)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (unsigned)(((z ^ (z >> 31)) >> 11) % n);
}

static inline void random_add(ace_text *text, unsigned c)
{
    char bytes[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)(lead[n] | c);
    ace_text_bytes(text, bytes, n);
}

static inline unsigned random_from(uint64_t *state, const random_range *ranges, unsigned count)
{
    random_range range = ranges[random_below(state, count)];
    return range.first + random_below(state, range.last - range.first + 1);
}

/* Appends one random string of the given mix. */
static inline void random_text(uint64_t *state, int mix, const random_ranges *ranges, ace_text *text)
{
    static const unsigned spaces[] = {0x9,    0xa,    0xb,    0xc,    0xd,    0x20,   0x85,   0xa0,   0x1680,
                                      0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
                                      0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    static const unsigned few[] = {'a', '1', '!', 0xe9};
    static const unsigned hangul[8][2] = {{0x1100, 19},  {0x1161, 21}, {0x11a7, 28}, {0xac00, 11172},
                                          {0x1100, 256}, {0xa960, 29}, {0xd7b0, 76}, {0x300, 3}};
    static const char *const fragments[] = {"<|im_end|>",
                                            "<|endoftext|>",
                                            "<think>",
                                            "</think>",
                                            "<|audio_code_",
                                            "|>",
                                            "0",
                                            "7",
                                            "99",
                                            "100",
                                            "007",
                                            "<",
                                            "|",
                                            ">",
                                            "</",
                                            "<|",
                                            "im_end",
                                            "\u0338",
                                            "\u0301",
                                            "e",
                                            " ",
                                            "\n",
                                            "<|audio_code_12|>",
                                            "é",
                                            "歌"};
    static const char *const words[] = {"'", "'", "'", "’",  "s", "S", "\u017f", "t", "T", "r", "re", "VE", "v",
                                        "m", "l", "L", "ll", "d", "D", "e",      "x", " ", "!", "1",  "\n"};
    unsigned length = 1 + random_below(state, 40);
    for (unsigned i = 0; i < length; i++) {
        unsigned kind = random_below(state, 8);
        switch (mix) {
        case 0:
            random_add(text, random_below(state, kind < 7 ? 128 : 0x250));
            break;
        case 1:
            random_add(text, kind < 4   ? spaces[random_below(state, 25)]
                             : kind < 6 ? (unsigned)" \n\r\t  \n\r"[random_below(state, 8)]
                                        : few[random_below(state, 4)]);
            break;
        case 2:
            random_add(text, random_from(state, ranges->assigned, ranges->assigned_count));
            break;
        case 3:
            random_add(text, kind < 5   ? random_from(state, ranges->marks, ranges->mark_count)
                             : kind < 7 ? 0xc0 + random_below(state, 0x250 - 0xc0)
                                        : random_from(state, ranges->assigned, ranges->assigned_count));
            break;
        case 4:
            random_add(text, hangul[kind][0] + random_below(state, hangul[kind][1]));
            break;
        case 5:
            ace_text_add(text, fragments[random_below(state, 25)]);
            break;
        default:
            ace_text_add(text, words[random_below(state, 25)]);
            break;
        }
    }
}

/* FNV-1a, 64 bits; start with RANDOM_HASH. */
#define RANDOM_HASH 0xcbf29ce484222325u

static inline uint64_t random_hash(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

#endif
