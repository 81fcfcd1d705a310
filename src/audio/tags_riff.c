#include "audio/tag_codecs.h"
#include "base/bytes.h"
#include "base/error.h"

#include <string.h>

/* ---- writing ------------------------------------------------------------------------------------------------ */

/* A chunk's data is padded to an even length that its size field does not count. */
static void add_text(ace_text *list, const char *id, const char *text)
{
    if (!text) return;
    size_t n = strlen(text) + 1; /* INFO texts end with a NUL */
    ace_text_bytes(list, id, 4);
    bytes_add_le32(list, (uint32_t)n);
    ace_text_bytes(list, text, n);
    if (n % 2) ace_text_bytes(list, "", 1);
}

void riff_encode_info(const audio_tags *tags, ace_text *chunk)
{
    ace_text list = {0};
    ace_text_bytes(&list, "INFO", 4);
    add_text(&list, "INAM", tags->title);
    add_text(&list, "IART", tags->artist);
    add_text(&list, "ISFT", tags->software);
    add_text(&list, "ICMT", tags->comment);
    if (list.failed) {
        chunk->failed = true;
    } else if (list.length > 4) {
        ace_text_bytes(chunk, "LIST", 4);
        bytes_add_le32(chunk, (uint32_t)list.length);
        ace_text_bytes(chunk, list.data, list.length);
    }
    ace_text_free(&list);
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

/* One chunk of a run of chunks. */
typedef struct chunk {
    const uint8_t *id, *data;
    size_t size;
} chunk;

/* Takes the chunk at *at and moves on to the next; false at the end, or with an error when the chunk is cut short. */
static bool next_chunk(chunk *c, const uint8_t *data, size_t size, size_t *at, ace_error *error)
{
    if (*at >= size) return false;
    if (size - *at < 8)
        return ace_fail(error, ACE_ERROR_FORMAT, "the WAV file is cut off inside a chunk header at offset %zu", *at);
    c->id = data + *at;
    c->size = bytes_le32(c->id + 4);
    c->data = c->id + 8;
    size_t left = size - *at - 8;
    if (c->size > left)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "the WAV file is cut off or damaged: a chunk at offset %zu claims %zu bytes and %zu are left",
                        *at, c->size, left);
    *at += 8 + c->size;
    if (c->size % 2 && *at < size) ++*at;
    return true;
}

static bool decode_info(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error)
{
    const struct {
        const char *id;
        char **slot;
    } known[] = {{"INAM", &tags->title}, {"IART", &tags->artist}, {"ISFT", &tags->software}, {"ICMT", &tags->comment}};
    ace_error inner = {0};
    chunk c = {0};
    for (size_t at = 0; next_chunk(&c, data, size, &at, &inner);)
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (memcmp(c.id, known[i].id, 4) == 0 && !tags_set(known[i].slot, c.data, c.size, known[i].id, error))
                return false;
    if (inner.status == ACE_OK) return true;
    return ace_fail(error, inner.status, "%s (in its INFO list)", inner.message);
}

bool riff_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error)
{
    ace_error inner = {0};
    chunk c = {0};
    for (size_t at = 12; next_chunk(&c, data, size, &at, &inner);)
        if (memcmp(c.id, "LIST", 4) == 0 && c.size >= 4 && memcmp(c.data, "INFO", 4) == 0 &&
            !decode_info(tags, c.data + 4, c.size - 4, error))
            return false;
    if (inner.status == ACE_OK) return true;
    return ace_fail(error, inner.status, "%s", inner.message);
}
