#include "audio/audio_tags.h"

#include "audio/tag_codecs.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

bool tags_set(char **slot, const uint8_t *bytes, size_t n, const char *name, ace_error *error)
{
    while (n > 0 && bytes[n - 1] == 0) n--;
    if (*slot || n == 0) return true;
    if (n > AUDIO_TAG_LIMIT)
        return ace_fail(error, ACE_ERROR_FORMAT, "its tag %s has %zu bytes, more than the %zu that are read", name, n,
                        AUDIO_TAG_LIMIT);
    if (memchr(bytes, 0, n) || !ace_utf8_valid((const char *)bytes, n, NULL))
        return ace_fail(error, ACE_ERROR_FORMAT, "its tag %s is not UTF-8 text", name);
    char *text = ace_calloc(n + 1, 1, "a tag", error);
    if (!text) return false;
    memcpy(text, bytes, n);
    *slot = text;
    return true;
}

static bool starts_with(const ace_map *file, const char *magic, size_t offset)
{
    size_t n = strlen(magic);
    return file->size >= offset + n && memcmp(file->data + offset, magic, n) == 0;
}

/* An MPEG audio frame: eleven set bits, then a layer and a bit rate that exist. */
static bool is_mpeg_frame(const ace_map *file)
{
    const uint8_t *p = file->data;
    return file->size >= 4 && p[0] == 0xff && (p[1] & 0xe0) == 0xe0 && (p[1] & 0x06) != 0 && (p[2] & 0xf0) != 0xf0;
}

static bool decode(audio_tags *tags, const ace_map *file, ace_error *error)
{
    if (starts_with(file, "RIFF", 0) && starts_with(file, "WAVE", 8))
        return riff_decode_tags(tags, file->data, file->size, error);
    if (starts_with(file, "fLaC", 0)) return flac_decode_tags(tags, file->data, file->size, error);
    if (starts_with(file, "OggS", 0)) return ogg_decode_tags(tags, file->data, file->size, error);
    if (starts_with(file, "ID3", 0)) return id3_decode_tags(tags, file->data, file->size, error);
    if (is_mpeg_frame(file)) return true;
    return ace_fail(error, ACE_ERROR_FORMAT, "this is no WAV, FLAC, MP3 or Ogg file: give one that this program wrote");
}

bool audio_tags_read(audio_tags *tags, const char *path, ace_error *error)
{
    *tags = (audio_tags){0};
    ace_map file;
    ace_error inner = {0};
    if (!ace_map_open(&file, path, error)) return false;
    bool ok = decode(tags, &file, &inner);
    ace_map_close(&file);
    if (ok) return true;
    audio_tags_free(tags);
    return ace_fail(error, inner.status, "'%s': %s", path, inner.message);
}

void audio_tags_free(audio_tags *tags)
{
    free(tags->title);
    free(tags->artist);
    free(tags->software);
    free(tags->comment);
    *tags = (audio_tags){0};
}
