/* tag_codecs.h - how each container stores tags; for the files of this room only.
 *
 * Encoders append to an ace_text used as a byte buffer (check `failed`). Decoders take the bytes of a hostile file and
 * fill the texts that they find; when a tag occurs twice the first one counts. On failure the caller frees `tags`. */
#ifndef ACE_AUDIO_TAG_CODECS_H
#define ACE_AUDIO_TAG_CODECS_H

#include "audio/audio_tags.h"
#include "base/text.h"

/* Sets *slot to a copy of n bytes of UTF-8, trailing NULs removed, unless it is set already or they are empty. Text
 * that is not UTF-8, holds a NUL or is over AUDIO_TAG_LIMIT is ACE_ERROR_FORMAT. */
bool tags_set(char **slot, const uint8_t *bytes, size_t n, const char *name, ace_error *error);

/* RIFF WAVE: an INFO list (Multimedia Programming Interface and Data Specifications 1.0) as one chunk. */
void riff_encode_info(const audio_tags *tags, ace_text *chunk);
bool riff_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error);

/* ID3v2.4 (id3.org) with UTF-8 texts; reads v2.3 and v2.4. */
void id3_encode_tags(const audio_tags *tags, ace_text *out);
bool id3_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error);

/* A Vorbis comment list (xiph.org "Vorbis I", §5), without framing. */
void vorbis_encode_comments(const audio_tags *tags, const char *vendor, ace_text *out);
bool vorbis_decode_comments(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error);

/* The comment list of a FLAC file (RFC 9639 §8) and of the first stream in an Ogg file, Opus or Vorbis. */
bool flac_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error);
bool ogg_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error);

#endif
