/* layouts.h - rewrites the tensors of a tiny official checkpoint into the other layouts that checkpoints come in. */
#ifndef TESTS_MODEL_LAYOUTS_H
#define TESTS_MODEL_LAYOUTS_H

#include "base/text.h"
#include "formats/tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- directories ------------------------------------------------------------------------------------------------- */

static char *place(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A formatted path, valid until 64 more were asked for. */
static char *place(const char *format, ...)
{
    static char paths[64][1024];
    static int next;
    char *path = paths[next++ % 64];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof paths[0], format, args);
    va_end(args);
    return path;
}

static inline char *make_directory(char *path)
{
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static inline int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void make_link(const char *to, const char *at)
{
    assert_int_equal(symlink(to, at), 0);
}

static inline void write_bytes(const char *path, const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

static inline char *read_text(const char *path)
{
    ace_error error = {0};
    size_t size;
    char *text = ace_read_file(path, 1 << 20, &size, &error);
    assert_non_null(text);
    return text;
}

/* Copies a text file with one piece replaced. */
static inline void edit_text(const char *from, const char *to, const char *old, const char *new)
{
    char *text = read_text(from), *at = strstr(text, old);
    assert_non_null(at);
    ace_text edited = {0};
    ace_text_bytes(&edited, text, (size_t)(at - text));
    ace_text_add(&edited, new);
    ace_text_add(&edited, at + strlen(old));
    write_bytes(to, edited.data, edited.length);
    ace_text_free(&edited);
    free(text);
}

/* ---- safetensors ------------------------------------------------------------------------------------------------- */

/* Several sets as one file; the name of each tensor is made by its set's `rename` (to `buffer`; false: left out). */
typedef struct renamed_set {
    const ace_tensors *tensors;
    const char *argument;
    bool (*rename)(char buffer[256], const char *name, const char *argument);
} renamed_set;

static inline bool with_prefix(char buffer[256], const char *name, const char *prefix)
{
    snprintf(buffer, 256, "%s%s", prefix, name);
    return true;
}

static inline void write_safetensors(const char *path, const renamed_set *sets, int count)
{
    ace_text header = {0}, data = {0};
    char name[256];
    for (int s = 0; s < count; s++) {
        for (size_t i = 0; i < tensors_count(sets[s].tensors); i++) {
            const ace_tensor *t = tensors_at(sets[s].tensors, i);
            if (!sets[s].rename(name, t->name, sets[s].argument)) continue;
            ace_text_format(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", header.length ? "," : "{", name,
                            ace_dtype_name(t->dtype));
            for (int k = 0; k < t->rank; k++) ace_text_format(&header, k ? ",%lld" : "%lld", (long long)t->shape[k]);
            ace_text_format(&header, "],\"data_offsets\":[%zu,%zu]}", data.length, data.length + t->bytes);
            ace_text_bytes(&data, (const char *)t->data, t->bytes);
        }
    }
    ace_text_add(&header, "}");
    ace_text whole = {0};
    uint64_t n = header.length;
    ace_text_bytes(&whole, (const char *)&n, 8);
    ace_text_bytes(&whole, header.data, header.length);
    ace_text_bytes(&whole, data.data, data.length);
    assert_false(whole.failed);
    write_bytes(path, whole.data, whole.length);
    ace_text_free(&header);
    ace_text_free(&data);
    ace_text_free(&whole);
}

/* ---- GGUF -------------------------------------------------------------------------------------------------------- */

static inline void put32(ace_text *t, uint32_t v)
{
    ace_text_bytes(t, (const char *)&v, 4);
}

static inline void put64(ace_text *t, uint64_t v)
{
    ace_text_bytes(t, (const char *)&v, 8);
}

static inline void put_string(ace_text *t, const char *s)
{
    put64(t, strlen(s));
    ace_text_add(t, s);
}

/* Metadata under construction. */
typedef struct gguf_keys {
    ace_text bytes;
    uint64_t count;
} gguf_keys;

static inline void key_string(gguf_keys *keys, const char *key, const char *value)
{
    put_string(&keys->bytes, key);
    put32(&keys->bytes, 8);
    put_string(&keys->bytes, value);
    keys->count++;
}

static inline void key_u32(gguf_keys *keys, const char *key, uint32_t value)
{
    put_string(&keys->bytes, key);
    put32(&keys->bytes, 4);
    put32(&keys->bytes, value);
    keys->count++;
}

static inline void key_true(gguf_keys *keys, const char *key)
{
    put_string(&keys->bytes, key);
    put32(&keys->bytes, 7);
    ace_text_bytes(&keys->bytes, "\1", 1);
    keys->count++;
}

static inline void key_strings(gguf_keys *keys, const char *key, const char *const *values, uint64_t count)
{
    put_string(&keys->bytes, key);
    put32(&keys->bytes, 9);
    put32(&keys->bytes, 8);
    put64(&keys->bytes, count);
    for (uint64_t i = 0; i < count; i++) put_string(&keys->bytes, values[i]);
    keys->count++;
}

/* A tensor entry in the order of ggml: dimensions fastest first, leading ones of 1 dropped as ggml does. */
static inline void put_gguf_tensor(ace_text *header, ace_text *data, const char *name, int rank, const int64_t *shape,
                                   ace_dtype dtype, const void *bytes, size_t n)
{
    while (rank > 1 && shape[0] == 1) {
        shape++;
        rank--;
    }
    put_string(header, name);
    put32(header, (uint32_t)rank);
    for (int k = rank - 1; k >= 0; k--) put64(header, (uint64_t)shape[k]);
    put32(header, dtype == ACE_F32 ? 0 : dtype == ACE_F16 ? 1 : 30);
    put64(header, data->length);
    ace_text_bytes(data, bytes, n);
    while (data->length % 32) ace_text_bytes(data, "", 1);
}

/* Takes over the keys. `silence`, if not NULL, is written as frames x channels. */
static inline void write_gguf(const char *path, const ace_tensors *tensors, gguf_keys *keys, const ace_tensor *silence,
                              int64_t channels)
{
    ace_text whole = {0}, header = {0}, data = {0};
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *t = tensors_at(tensors, i);
        put_gguf_tensor(&header, &data, t->name, t->rank, t->shape, t->dtype, t->data, t->bytes);
    }
    if (silence) {
        int64_t shape[2] = {silence->count / channels, channels};
        float *frames = malloc(silence->bytes);
        for (int64_t f = 0; f < shape[0]; f++)
            for (int64_t c = 0; c < channels; c++)
                memcpy(frames + f * channels + c, silence->data + 4 * (c * shape[0] + f), 4);
        put_gguf_tensor(&header, &data, "silence_latent", 2, shape, ACE_F32, frames, silence->bytes);
        free(frames);
    }
    ace_text_add(&whole, "GGUF");
    put32(&whole, 3);
    put64(&whole, tensors_count(tensors) + (silence ? 1 : 0));
    put64(&whole, keys->count);
    ace_text_bytes(&whole, keys->bytes.data, keys->bytes.length);
    ace_text_bytes(&whole, header.data, header.length);
    while (whole.length % 32) ace_text_bytes(&whole, "", 1);
    ace_text_bytes(&whole, data.data, data.length);
    assert_false(whole.failed);
    write_bytes(path, whole.data, whole.length);
    ace_text_free(&keys->bytes);
    ace_text_free(&header);
    ace_text_free(&data);
    ace_text_free(&whole);
}

/* A directory of its own for each test. */
typedef struct workshop {
    char root[64];
} workshop;

static inline int setup(void **state)
{
    workshop *w = calloc(1, sizeof *w);
    strcpy(w->root, "/tmp/acestep-test-XXXXXX");
    *state = w;
    return mkdtemp(w->root) ? 0 : -1;
}

static inline int teardown(void **state)
{
    workshop *w = *state;
    remove_tree(w->root);
    free(w);
    return 0;
}

#endif
