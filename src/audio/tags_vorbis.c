#include "audio/ogg_page.h"
#include "audio/tag_codecs.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the comment list ---------------------------------------------------------------------------------------- */

void vorbis_encode_comments(const audio_tags *tags, const char *vendor, ace_text *out)
{
    const struct {
        const char *name, *value;
    } fields[] = {
        {"TITLE", tags->title}, {"ARTIST", tags->artist}, {"ENCODER", tags->software}, {"COMMENT", tags->comment}};
    enum { FIELDS = sizeof fields / sizeof *fields };
    uint32_t count = 0;
    for (int i = 0; i < FIELDS; i++) count += fields[i].value != NULL;
    bytes_add_le32(out, (uint32_t)strlen(vendor));
    ace_text_add(out, vendor);
    bytes_add_le32(out, count);
    for (int i = 0; i < FIELDS; i++) {
        if (!fields[i].value) continue;
        bytes_add_le32(out, (uint32_t)(strlen(fields[i].name) + 1 + strlen(fields[i].value)));
        ace_text_add(out, fields[i].name);
        ace_text_add(out, "=");
        ace_text_add(out, fields[i].value);
    }
}

/* A 32-bit length and that many bytes, taken from the front of *data. */
static bool take_string(const uint8_t **data, size_t *size, const uint8_t **string, size_t *length, ace_error *error)
{
    size_t claimed = *size < 4 ? 0 : bytes_le32(*data);
    if (*size < 4 || claimed > *size - 4)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "the comment list is damaged: a text claims %zu bytes where %zu are left", claimed, *size);
    *string = *data + 4;
    *length = claimed;
    *data += 4 + claimed;
    *size -= 4 + claimed;
    return true;
}

bool vorbis_decode_comments(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error)
{
    /* libFLAC's users write SOFTWARE where Ogg's write ENCODER. */
    const struct {
        const char *name;
        char **slot;
    } known[] = {{"TITLE", &tags->title},
                 {"ARTIST", &tags->artist},
                 {"ENCODER", &tags->software},
                 {"SOFTWARE", &tags->software},
                 {"COMMENT", &tags->comment}};
    const uint8_t *string = NULL;
    size_t length = 0;
    if (!take_string(&data, &size, &string, &length, error)) return false; /* the vendor */
    if (size < 4) return ace_fail(error, ACE_ERROR_FORMAT, "the comment list is cut off before its count");
    uint32_t count = bytes_le32(data);
    data += 4;
    size -= 4;
    for (uint32_t i = 0; i < count; i++) {
        if (!take_string(&data, &size, &string, &length, error)) return false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
            size_t n = strlen(known[k].name);
            if (length <= n || string[n] != '=' || strncasecmp((const char *)string, known[k].name, n) != 0) continue;
            if (!tags_set(known[k].slot, string + n + 1, length - n - 1, known[k].name, error)) return false;
        }
    }
    return true;
}

/* ---- FLAC ---------------------------------------------------------------------------------------------------- */

bool flac_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error)
{
    enum { BLOCK_COMMENTS = 4 };
    bool last = false;
    for (size_t at = 4; !last;) {
        if (size - at < 4)
            return ace_fail(error, ACE_ERROR_FORMAT, "the FLAC file is cut off in its metadata at offset %zu", at);
        uint32_t header = bytes_be32(data + at);
        size_t length = header & 0xffffff;
        at += 4;
        if (length > size - at)
            return ace_fail(
                error, ACE_ERROR_FORMAT,
                "the FLAC file is cut off: a metadata block at offset %zu claims %zu bytes and %zu are left", at - 4,
                length, size - at);
        last = header >> 31;
        if ((header >> 24 & 0x7f) == BLOCK_COMMENTS) return vorbis_decode_comments(tags, data + at, length, error);
        at += length;
    }
    return true;
}

/* ---- Ogg ----------------------------------------------------------------------------------------------------- */

/* The longest comment packet that is read. */
#define PACKET_LIMIT (4 * AUDIO_TAG_LIMIT + 65536)

/* Gathers the second packet of the stream that begins at `data`; the caller frees packet->data. */
static bool second_packet(ace_text *packet, const uint8_t *data, size_t size, ace_error *error)
{
    uint32_t serial = size >= OGG_HEADER ? bytes_le32(data + OGG_SERIAL) : 0;
    int number = 0; /* of the packet that the next segment belongs to */
    for (size_t at = 0; at < size && number < 2;) {
        size_t page_size = ogg_page_size(data + at, size - at);
        if (page_size == 0 || page_size > size - at)
            return ace_fail(error, ACE_ERROR_FORMAT, "the Ogg file is cut off or damaged at offset %zu", at);
        const uint8_t *page = data + at;
        at += page_size;
        if (ogg_page_checksum(page, page_size) != bytes_le32(page + OGG_CHECKSUM))
            return ace_fail(error, ACE_ERROR_FORMAT,
                            "the Ogg file is damaged: the page at offset %zu fails its checksum",
                            (size_t)(page - data));
        if (bytes_le32(page + OGG_SERIAL) != serial) continue; /* another stream, multiplexed */
        size_t body = ogg_page_header(page);
        for (int i = 0; i < page[OGG_SEGMENTS] && number < 2; i++) {
            size_t length = page[OGG_HEADER + i];
            if (number == 1) ace_text_bytes(packet, (const char *)page + body, length);
            body += length;
            if (length < 255) number++;
        }
        if (packet->length > PACKET_LIMIT)
            return ace_fail(error, ACE_ERROR_FORMAT, "the Ogg file's comments exceed %zu bytes", PACKET_LIMIT);
    }
    if (packet->failed) return ace_fail_memory(error, "the comments of an Ogg file", packet->length);
    if (number < 2) return ace_fail(error, ACE_ERROR_FORMAT, "the Ogg file ends before its comments do");
    return true;
}

bool ogg_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error)
{
    ace_text packet = {0};
    bool ok = second_packet(&packet, data, size, error);
    if (ok) {
        const uint8_t *bytes = (const uint8_t *)packet.data;
        if (packet.length >= 8 && memcmp(bytes, "OpusTags", 8) == 0)
            ok = vorbis_decode_comments(tags, bytes + 8, packet.length - 8, error);
        else if (packet.length >= 7 && memcmp(bytes, "\3vorbis", 7) == 0)
            ok = vorbis_decode_comments(tags, bytes + 7, packet.length - 7, error);
        else
            ok = ace_fail(error, ACE_ERROR_FORMAT, "the Ogg file holds neither Opus nor Vorbis comments");
    }
    ace_text_free(&packet);
    return ok;
}
