/* audio_tags.h - the text inside an audio file: title, artist, the program, and the request that made the song.
 *
 * The comment holds the request as JSON, so that a song can be made again from its file. libsndfile cannot carry it
 * faithfully everywhere (it reads at most 2 kB from a WAV, writes Latin-1 into an MP3, and 50 kB into Opus), so the
 * tags are written and read here: RIFF LIST INFO in WAV, Vorbis comments in FLAC and Ogg, ID3v2.4 in MP3. Each carries
 * any UTF-8 text exactly, up to AUDIO_TAG_LIMIT bytes. */
#ifndef ACE_AUDIO_TAGS_H
#define ACE_AUDIO_TAGS_H

#include <acestep.h>

/* Longest text of one tag, in bytes. A FLAC metadata block holds less than 16 MiB in all. */
#define AUDIO_TAG_LIMIT ((size_t)4 << 20)

/* UTF-8, each NULL when absent. */
typedef struct audio_tags {
    char *title, *artist;
    char *software; /* program and version */
    char *comment;  /* the request, JSON */
} audio_tags;

/* Reads the tags of a WAV, FLAC, MP3, Ogg Opus or Ogg Vorbis file, told apart by their content. A damaged file, one of
 * another kind and text that is not UTF-8 are ACE_ERROR_FORMAT; a sound file without tags is no error (all NULL). */
bool audio_tags_read(audio_tags *tags, const char *path, ace_error *error);

/* Frees the texts of tags that audio_tags_read() filled, and zeroes them. */
void audio_tags_free(audio_tags *tags);

#endif
