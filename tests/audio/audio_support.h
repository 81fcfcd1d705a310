/* audio_support.h - what the audio tests share: a directory of their own, a signal with known samples, file bytes. */
#ifndef ACE_TESTS_AUDIO_SUPPORT_H
#define ACE_TESTS_AUDIO_SUPPORT_H

#include "audio/audio_format.h"
#include "audio/audio_writer.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* cmocka setup and teardown: *state is the path of an empty directory, removed with its files afterwards. It lies in
 * memory where that is possible: the tests write some ten thousand files. */
static inline int make_directory(void **state)
{
    char *path = strdup(access("/dev/shm", W_OK) == 0 ? "/dev/shm/acestep-audio-XXXXXX" : "/tmp/acestep-audio-XXXXXX");
    *state = mkdtemp(path);
    return *state ? 0 : -1;
}

static inline int count_files(const char *directory)
{
    ace_names names;
    assert_true(ace_list_directory(directory, &names, NULL));
    int count = (int)names.count;
    ace_names_free(&names);
    return count;
}

static inline void empty_directory(const char *directory)
{
    ace_names names;
    assert_true(ace_list_directory(directory, &names, NULL));
    for (size_t i = 0; i < names.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", directory, names.names[i]);
        unlink(path);
    }
    ace_names_free(&names);
}

static inline int remove_directory(void **state)
{
    empty_directory(*state);
    rmdir(*state);
    free(*state);
    return 0;
}

/* "directory/name" in a buffer of the caller. */
static inline const char *path_in(char buffer[512], const char *directory, const char *name)
{
    if (snprintf(buffer, 512, "%s/%s", directory, name) >= 512) fail_msg("%s is too long a path", directory);
    return buffer;
}

/* A file of exactly these bytes. A new one each time: some file systems flush a file that is overwritten. */
static inline void write_bytes(const char *path, const void *bytes, size_t n)
{
    unlink(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
}

/* n frames of two different chords with slowly moving level, |x| < 0.8; free(). */
static inline float *make_signal(size_t n)
{
    float *frames = malloc((n ? n : 1) * 2 * sizeof *frames);
    for (size_t i = 0; i < n; i++) {
        double t = (double)i / 48000.0, level = 0.5 + 0.25 * sin(6.0 * t);
        frames[2 * i] = (float)(level * (0.6 * sin(2764.6 * t) + 0.4 * sin(4146.9 * t)));
        frames[2 * i + 1] = (float)(level * (0.7 * sin(1382.3 * t + 1.0) + 0.3 * sin(6220.4 * t)));
    }
    return frames;
}

/* Writes a whole file, in blocks of `block` frames (0: all at once). */
static inline bool write_song(const char *path, const audio_writer_options *options, const float *frames, size_t n,
                              size_t block, ace_error *error)
{
    audio_writer *writer = audio_writer_open(path, options, error);
    if (!writer) return false;
    if (block == 0) block = n ? n : 1;
    for (size_t at = 0; at < n; at += block) {
        size_t count = n - at < block ? n - at : block;
        if (audio_writer_write(writer, frames + 2 * at, count, error)) continue;
        audio_writer_abandon(writer);
        return false;
    }
    return audio_writer_finish(writer, error);
}

/* assert_true() with the error's sentence. */
#define assert_ok(call, error)                                   \
    do {                                                         \
        if (!(call)) fail_msg("%s: %s", #call, (error).message); \
    } while (0)

/* The call must fail with this status and a sentence that contains `words`; the error is reset. */
#define assert_fails(call, error, code, words)                                                                \
    do {                                                                                                      \
        if (call) fail_msg("%s succeeded", #call);                                                            \
        if ((error).status != (code) || !strstr((error).message, words))                                      \
            fail_msg("%s: status %d, '%s' does not say '%s'", #call, (error).status, (error).message, words); \
        (error) = (ace_error){0};                                                                             \
    } while (0)

#endif
