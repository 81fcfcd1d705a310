#include "audio/ogg_page.h"

#include <string.h>

size_t ogg_page_size(const uint8_t *page, size_t n)
{
    if (memcmp(page, "OggS", n < 4 ? n : 4) != 0) return SIZE_MAX;
    if (n < OGG_HEADER) return 0;
    if (page[4] != 0) return SIZE_MAX; /* the only version there is */
    size_t size = ogg_page_header(page);
    if (n < size) return 0;
    for (int i = 0; i < page[OGG_SEGMENTS]; i++) size += page[OGG_HEADER + i];
    return size;
}

bool ogg_page_ends_packet(const uint8_t *page)
{
    size_t header = ogg_page_header(page);
    return header > OGG_HEADER && page[header - 1] < 255;
}

uint32_t ogg_crc(uint32_t crc, const uint8_t *bytes, size_t n)
{
    /* The CRC of the sixteen values of a nibble; two steps a byte keep the table small enough to read. */
    static const uint32_t nibble[16] = {0x00000000, 0x04c11db7, 0x09823b6e, 0x0d4326d9, 0x130476dc, 0x17c56b6b,
                                        0x1a864db2, 0x1e475005, 0x2608edb8, 0x22c9f00f, 0x2f8ad6d6, 0x2b4bcb61,
                                        0x350c9b64, 0x31cd86d3, 0x3c8ea00a, 0x384fbdbd};
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint32_t)bytes[i] << 24;
        crc = crc << 4 ^ nibble[crc >> 28];
        crc = crc << 4 ^ nibble[crc >> 28];
    }
    return crc;
}

uint32_t ogg_page_checksum(const uint8_t *page, size_t n)
{
    static const uint8_t zero[4] = {0};
    uint32_t crc = ogg_crc(0, page, OGG_CHECKSUM);
    crc = ogg_crc(crc, zero, sizeof zero);
    return ogg_crc(crc, page + OGG_CHECKSUM + 4, n - OGG_CHECKSUM - 4);
}
