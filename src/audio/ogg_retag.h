/* ogg_retag.h - a stage between libsndfile's Opus writer and the file.
 *
 * libsndfile gives every Ogg stream a random serial number and cannot carry a long comment. Both are mended while the
 * stream passes: the comment packet is replaced by ours, and every page gets a serial number that depends only on that
 * packet, its new sequence number and its checksum. The audio packets are untouched. */
#ifndef ACE_AUDIO_OGG_RETAG_H
#define ACE_AUDIO_OGG_RETAG_H

#include <acestep.h>

typedef struct ogg_retag ogg_retag;

/* Output goes to `fd` at its current position; `path` (borrowed) is for messages. The comment packet ("OpusTags" and a
 * comment list) is copied. */
ogg_retag *ogg_retag_open(int fd, const char *path, const uint8_t *packet, size_t n, ace_error *error);

/* The next n bytes of the stream as libsndfile writes it, in any portions. */
bool ogg_retag_write(ogg_retag *retag, const uint8_t *bytes, size_t n, ace_error *error);

/* Checks that the stream ended with a complete page of its own last packet. */
bool ogg_retag_complete(const ogg_retag *retag, ace_error *error);

void ogg_retag_close(ogg_retag *retag);

#endif
