#include "audio/audio_spool.h"

#include "audio/audio_format.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAME_BYTES (AUDIO_CHANNELS * sizeof(float))

bool audio_spool_open(audio_spool *spool, const char *path, ace_error *error)
{
    *spool = (audio_spool){.fd = -1};
    spool->path = ace_strdup(path, error);
    if (spool->path) spool->fd = ace_spool_open(path, error);
    if (spool->fd < 0) audio_spool_close(spool);
    return spool->fd >= 0;
}

bool audio_spool_append(audio_spool *spool, const float *frames, size_t n, ace_error *error)
{
    float peak = spool->peak;
    for (size_t i = 0; i < n * AUDIO_CHANNELS; i++) {
        float magnitude = fabsf(frames[i]);
        if (!isfinite(magnitude))
            return ace_fail(error, ACE_ERROR_NUMERIC,
                            "the decoded audio has a sample that is not a number at second %.3f: "
                            "the model or its weights are broken, no song is written",
                            ((double)spool->frames + (double)(i / AUDIO_CHANNELS)) / AUDIO_SAMPLE_RATE);
        if (magnitude > peak) peak = magnitude;
    }
    /* Sought every time, so that a failed append may be repeated. */
    if (lseek(spool->fd, (off_t)(spool->frames * (int64_t)FRAME_BYTES), SEEK_SET) < 0)
        return ace_fail(error, ACE_ERROR_IO, "cannot write the temporary audio beside '%s': it is not seekable",
                        spool->path);
    if (!ace_write_all(spool->fd, frames, n * FRAME_BYTES, spool->path, error))
        return ace_fail_in(error, "temporary audio of %.1f s", (double)spool->frames / AUDIO_SAMPLE_RATE);
    spool->frames += (int64_t)n;
    spool->peak = peak;
    return true;
}

bool audio_spool_read(const audio_spool *spool, int64_t first, float *frames, size_t n, ace_error *error)
{
    if (first < 0 || first > spool->frames || n > (uint64_t)(spool->frames - first))
        return ace_fail(error, ACE_ERROR_INTERNAL, "frames %lld..+%zu are not in a spool of %lld frames",
                        (long long)first, n, (long long)spool->frames);
    return ace_read_at(spool->fd, frames, n * FRAME_BYTES, first * (int64_t)FRAME_BYTES, spool->path, error);
}

/* Non-negative floats are ordered like their bit patterns, so the wanted magnitude is found digit by digit: one pass
 * counts the upper 16 bits, a second one the lower 16 bits of those that share the wanted upper half. */
#define DIGITS 65536

static uint32_t magnitude_bits(float x)
{
    float magnitude = fabsf(x);
    uint32_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    return bits;
}

/* Adds to counts[] the lower digits of the magnitudes whose upper digit is `upper`; -1 counts all upper digits. */
static bool count_digits(const audio_spool *spool, int32_t upper, int64_t *counts, ace_error *error)
{
    enum { BLOCK = 4096 };
    float *block = ace_calloc(BLOCK, FRAME_BYTES, "a block of audio", error);
    bool ok = block != NULL;
    for (int64_t first = 0; ok && first < spool->frames; first += BLOCK) {
        size_t n = (size_t)(spool->frames - first < BLOCK ? spool->frames - first : BLOCK);
        ok = audio_spool_read(spool, first, block, n, error);
        for (size_t i = 0; ok && i < n * AUDIO_CHANNELS; i++) {
            uint32_t bits = magnitude_bits(block[i]);
            if (upper < 0)
                counts[bits >> 16]++;
            else if (bits >> 16 == (uint32_t)upper)
                counts[bits & 0xffff]++;
        }
    }
    free(block);
    return ok;
}

/* The digit in which element number *rank falls; *rank becomes its number within that digit. */
static uint32_t digit_of_rank(const int64_t *counts, int64_t *rank)
{
    uint32_t digit = 0;
    while (*rank >= counts[digit]) *rank -= counts[digit++];
    return digit;
}

bool audio_spool_rank(const audio_spool *spool, int64_t rank, float *magnitude, ace_error *error)
{
    if (rank < 0 || rank >= spool->frames * AUDIO_CHANNELS)
        return ace_fail(error, ACE_ERROR_INTERNAL, "no sample number %lld in a spool of %lld frames", (long long)rank,
                        (long long)spool->frames);
    int64_t *counts = ace_calloc((size_t)2 * DIGITS, sizeof *counts, "a histogram", error);
    bool ok = counts && count_digits(spool, -1, counts, error);
    if (ok) {
        uint32_t upper = digit_of_rank(counts, &rank);
        ok = count_digits(spool, (int32_t)upper, counts + DIGITS, error);
        if (ok) {
            uint32_t bits = upper << 16 | digit_of_rank(counts + DIGITS, &rank);
            memcpy(magnitude, &bits, sizeof bits);
        }
    }
    free(counts);
    return ok;
}

void audio_spool_close(audio_spool *spool)
{
    /* A zeroed spool has fd 0 but no path. */
    if (spool->path && spool->fd >= 0) close(spool->fd);
    free(spool->path);
    *spool = (audio_spool){.fd = -1};
}
