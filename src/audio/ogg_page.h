/* ogg_page.h - the pages of an Ogg stream (RFC 3533 §6): header layout and checksum. */
#ifndef ACE_AUDIO_OGG_PAGE_H
#define ACE_AUDIO_OGG_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Byte offsets in a page header; the lacing values follow at OGG_HEADER, the packets behind them. */
enum {
    OGG_FLAGS = 5,
    OGG_GRANULE = 6,
    OGG_SERIAL = 14,
    OGG_SEQUENCE = 18,
    OGG_CHECKSUM = 22,
    OGG_SEGMENTS = 26,
    OGG_HEADER = 27,
    OGG_PAGE_MAX = OGG_HEADER + 255 + 255 * 255
};

/* Bits of the flags byte. */
enum { OGG_CONTINUED = 1, OGG_FIRST = 2, OGG_LAST = 4 };

/* The size of the page that begins at `page`, of which n bytes are at hand: 0 when they are too few to tell, SIZE_MAX
 * when this is no page. The page itself may be longer than n. */
size_t ogg_page_size(const uint8_t *page, size_t n);

/* Bytes of its header, lacing values included. The page must be complete. */
static inline size_t ogg_page_header(const uint8_t *page)
{
    return (size_t)OGG_HEADER + page[OGG_SEGMENTS];
}

/* True when the page's last packet ends in it. */
bool ogg_page_ends_packet(const uint8_t *page);

/* CRC-32 of n bytes with polynomial 0x04c11db7, not reflected, from `crc` on (0 to begin). */
uint32_t ogg_crc(uint32_t crc, const uint8_t *bytes, size_t n);

/* The checksum that a complete page should carry. */
uint32_t ogg_page_checksum(const uint8_t *page, size_t n);

#endif
