/* bytes.h - integers of files, least (le) or most (be) significant byte first. */
#ifndef ACE_AUDIO_BYTES_H
#define ACE_AUDIO_BYTES_H

#include "base/text.h"

static inline uint32_t bytes_le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t bytes_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void bytes_put_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static inline void bytes_add_le32(ace_text *out, uint32_t v)
{
    uint8_t bytes[4];
    bytes_put_le32(bytes, v);
    ace_text_bytes(out, (const char *)bytes, sizeof bytes);
}

#endif
