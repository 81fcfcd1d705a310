/* audio_format.h - the kinds of audio file that can be written, by name and by file extension (spec/vae-audio.md §19).
 */
#ifndef ACE_AUDIO_FORMAT_H
#define ACE_AUDIO_FORMAT_H

#include <acestep.h>

#define AUDIO_SAMPLE_RATE 48000 /* frames per second of every song */
#define AUDIO_CHANNELS 2

/* Which formats this build knows; whether its libsndfile can write one is asked with audio_format_check(). */
typedef enum audio_format {
    AUDIO_WAV16,  /* "wav":    RIFF WAVE, 16-bit PCM */
    AUDIO_WAV24,  /* "wav24":  RIFF WAVE, 24-bit PCM */
    AUDIO_WAV32,  /* "wav32":  RIFF WAVE, IEEE float, not clipped */
    AUDIO_FLAC24, /* "flac":   24-bit FLAC, the default */
    AUDIO_FLAC16, /* "flac16": 16-bit FLAC */
    AUDIO_MP3,    /* "mp3":    constant bit rate */
    AUDIO_OPUS,   /* "opus":   Ogg Opus */
    AUDIO_FORMAT_COUNT
} audio_format;

/* "flac"; a constant. */
const char *audio_format_name(audio_format format);

/* ".flac"; a constant. The three WAV formats share ".wav", the two FLAC formats ".flac". */
const char *audio_format_extension(audio_format format);

/* "24-bit FLAC, lossless": what a help page says of it; a constant. */
const char *audio_format_description(audio_format format);

/* By name, case ignored. Unknown: ACE_ERROR_USAGE listing the known names. */
bool audio_format_from_name(const char *name, audio_format *format, ace_error *error);

/* By a path's extension, case ignored: .wav is "wav" (16-bit), .flac is "flac" (24-bit). No or unknown extension:
 * ACE_ERROR_USAGE listing the known ones. */
bool audio_format_from_path(const char *path, audio_format *format, ace_error *error);

/* The format for an output path and an optional --format name (NULL: decide by the extension). A name that
 * contradicts a known extension ("wav24" for song.mp3) is ACE_ERROR_USAGE: a file's name must not lie. */
bool audio_format_choose(const char *path, const char *name, audio_format *format, ace_error *error);

/* True when the libsndfile that runs can write `format`; otherwise ACE_ERROR_USAGE naming formats that it can write. */
bool audio_format_check(audio_format format, ace_error *error);

/* Bits per integer sample that the file stores: 16 or 24; 0 for float and for the lossy formats. */
int audio_format_bits(audio_format format);

#endif
