#include "audio/ogg_retag.h"

#include "audio/ogg_page.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Where the stream is: an Opus stream is the identification page, the comment pages, then audio (RFC 7845 §3). */
typedef enum stage { STAGE_HEAD, STAGE_COMMENT, STAGE_AUDIO, STAGE_END } stage;

struct ogg_retag {
    int fd;
    const char *path;
    uint8_t *packet; /* our comment packet */
    size_t packet_size;
    uint32_t serial, sequence;
    stage stage;
    size_t have; /* bytes at hand of a page that is not complete */
    uint8_t page[OGG_PAGE_MAX];
};

ogg_retag *ogg_retag_open(int fd, const char *path, const uint8_t *packet, size_t n, ace_error *error)
{
    ogg_retag *retag = ace_calloc(1, sizeof *retag, "the Ogg writer", error);
    if (!retag) return NULL;
    retag->packet = ace_calloc(n, 1, "the comments of an Ogg file", error);
    if (!retag->packet) {
        ogg_retag_close(retag);
        return NULL;
    }
    memcpy(retag->packet, packet, n);
    retag->packet_size = n;
    retag->fd = fd;
    retag->path = path;
    retag->serial = ogg_crc(0, packet, n);
    return retag;
}

void ogg_retag_close(ogg_retag *retag)
{
    if (retag) free(retag->packet);
    free(retag);
}

static bool emit(ogg_retag *retag, uint8_t *page, size_t n, ace_error *error)
{
    bytes_put_le32(page + OGG_SERIAL, retag->serial);
    bytes_put_le32(page + OGG_SEQUENCE, retag->sequence++);
    bytes_put_le32(page + OGG_CHECKSUM, ogg_page_checksum(page, n));
    return ace_write_all(retag->fd, page, n, retag->path, error);
}

/* Our comment packet in as many pages as it takes. A packet is cut into segments of 255 bytes and ends with a shorter
 * one, possibly of length 0; a page holds up to 255 segments. The granule position is 0 where a packet ends and -1
 * where none does. */
static bool emit_comment(ogg_retag *retag, ace_error *error)
{
    uint8_t *page = ace_calloc(OGG_PAGE_MAX, 1, "an Ogg page", error);
    if (!page) return false;
    size_t segments = retag->packet_size / 255 + 1, done = 0;
    bool ok = true;
    while (ok && segments > 0) {
        size_t count = segments < 255 ? segments : 255;
        bool last = count == segments;
        size_t body = last ? retag->packet_size - done : count * 255;
        memset(page, 0, OGG_HEADER);
        memcpy(page, "OggS", 4);
        page[OGG_FLAGS] = done > 0 ? OGG_CONTINUED : 0;
        memset(page + OGG_GRANULE, last ? 0 : 0xff, 8);
        page[OGG_SEGMENTS] = (uint8_t)count;
        memset(page + OGG_HEADER, 255, count);
        if (last) page[OGG_HEADER + count - 1] = (uint8_t)(body % 255);
        memcpy(page + OGG_HEADER + count, retag->packet + done, body);
        ok = emit(retag, page, OGG_HEADER + count + body, error);
        done += body;
        segments -= count;
    }
    free(page);
    return ok;
}

static bool take_page(ogg_retag *retag, ace_error *error)
{
    switch (retag->stage) {
    case STAGE_HEAD:
        retag->stage = STAGE_COMMENT;
        return emit(retag, retag->page, retag->have, error);
    case STAGE_COMMENT:
        if (!ogg_page_ends_packet(retag->page)) return true;
        retag->stage = STAGE_AUDIO;
        return emit_comment(retag, error);
    case STAGE_AUDIO:
        if (retag->page[OGG_FLAGS] & OGG_LAST) retag->stage = STAGE_END;
        return emit(retag, retag->page, retag->have, error);
    case STAGE_END:
        break;
    }
    return ace_fail(error, ACE_ERROR_INTERNAL, "'%s': the Opus encoder wrote on after its last page", retag->path);
}

bool ogg_retag_write(ogg_retag *retag, const uint8_t *bytes, size_t n, ace_error *error)
{
    for (size_t i = 0; i < n;) {
        /* The size is known only when the lacing values are there, so the header is gathered byte by byte. */
        size_t size = retag->have ? ogg_page_size(retag->page, retag->have) : 0;
        if (size == SIZE_MAX)
            return ace_fail(error, ACE_ERROR_INTERNAL, "'%s': the Opus encoder wrote something that is no Ogg page",
                            retag->path);
        size_t want = size ? size - retag->have : 1;
        size_t take = want < n - i ? want : n - i;
        memcpy(retag->page + retag->have, bytes + i, take);
        retag->have += take;
        i += take;
        if (ogg_page_size(retag->page, retag->have) != retag->have) continue;
        if (!take_page(retag, error)) return false;
        retag->have = 0;
    }
    return true;
}

bool ogg_retag_complete(const ogg_retag *retag, ace_error *error)
{
    if (retag->stage == STAGE_END && retag->have == 0) return true;
    return ace_fail(error, ACE_ERROR_INTERNAL, "'%s': the Opus encoder did not finish its stream", retag->path);
}
