/* The Ogg framing of a written Opus file, rule by rule (RFC 3533 §6, RFC 7845 §3), with a checksum of the test's own.
 */
#include "audio_support.h"

static uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Bit by bit, straight from RFC 3533: polynomial 0x04c11db7, initial value and final xor 0, checksum field as zero. */
static uint32_t checksum(const uint8_t *page, size_t n)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint32_t)(i >= 22 && i < 26 ? 0 : page[i]) << 24;
        for (int bit = 0; bit < 8; bit++) crc = crc & 0x80000000u ? crc << 1 ^ 0x04c11db7u : crc << 1;
    }
    return crc;
}

static uint32_t check_stream(const uint8_t *bytes, size_t size, size_t frames)
{
    uint32_t serial = get32(bytes + 14), sequence = 0;
    int packets = 0, comment_end_page = -1;
    bool continued = false;
    int64_t last_granule = 0;
    uint8_t flags = 0;
    for (size_t at = 0; at < size; sequence++) {
        const uint8_t *page = bytes + at;
        assert_true(size - at >= 27 && memcmp(page, "OggS\0", 5) == 0);
        int segments = page[26];
        size_t n = 27 + (size_t)segments;
        for (int i = 0; i < segments; i++) n += page[27 + i];
        assert_true(n <= size - at);
        assert_int_equal(get32(page + 22), checksum(page, n));
        assert_int_equal(get32(page + 14), serial);
        assert_int_equal(get32(page + 18), sequence);
        flags = page[5];
        assert_int_equal(flags & 1, continued);
        assert_int_equal((flags >> 1) & 1, sequence == 0);
        int64_t granule = (int64_t)(get32(page + 6) | (uint64_t)get32(page + 10) << 32);
        int ended = 0;
        for (int i = 0; i < segments; i++) ended += page[27 + i] < 255;
        continued = segments > 0 && page[27 + segments - 1] == 255;
        if (ended == 0)
            assert_int_equal(granule, -1);
        else if (packets < 2)
            assert_int_equal(granule, 0);
        else {
            assert_true(granule >= last_granule);
            last_granule = granule;
        }
        packets += ended;
        /* The identification packet and the comment packet each end their page. */
        if (sequence == 0) assert_true(packets == 1 && memcmp(page + n - 19, "OpusHead", 8) == 0);
        if (packets == 2 && comment_end_page < 0) {
            comment_end_page = (int)sequence;
            assert_true(ended == 1 && page[27 + segments - 1] < 255);
        }
        at += n;
    }
    assert_true(flags & 4);
    assert_int_equal(last_granule - 312, frames); /* the encoder's delay of 6.5 ms, in the header's pre-skip */
    return serial;
}

static void test_framing(void **state)
{
    char path[512];
    path_in(path, *state, "song.opus");
    char *text = calloc(300000, 1);
    static const size_t lengths[] = {1, 211, 212, 64000, 130000, 299999};
    float *signal = make_signal(70000);
    uint32_t serials[6];
    for (int k = 0; k < 6; k++) {
        memset(text, 'x', lengths[k]);
        audio_writer_options options = {.format = AUDIO_OPUS, .rate = 48000, .replace = true, .tags.comment = text};
        ace_error error = {0};
        assert_ok(write_song(path, &options, signal, 70000, 0, &error), error);
        size_t size;
        char *bytes = ace_read_file(path, 1 << 24, &size, &error);
        assert_non_null(bytes);
        serials[k] = check_stream((const uint8_t *)bytes, size, 70000);
        free(bytes);
        /* Songs of different requests can be chained in one file: their serial numbers differ. */
        for (int j = 0; j < k; j++) assert_int_not_equal(serials[k], serials[j]);
    }
    free(signal);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_framing)};
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
