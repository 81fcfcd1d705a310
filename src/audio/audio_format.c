#include "audio/audio_format.h"

#include "audio/sndfile_format.h"
#include "base/error.h"

#include <string.h>
#include <strings.h>

typedef struct format_entry {
    const char *name, *extension, *description;
    int sndfile; /* libsndfile's major and subtype */
    int bits;
} format_entry;

static const format_entry formats[AUDIO_FORMAT_COUNT] = {
    [AUDIO_WAV16] = {"wav", ".wav", "WAV, 16-bit PCM", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16},
    [AUDIO_WAV24] = {"wav24", ".wav", "WAV, 24-bit PCM", SF_FORMAT_WAV | SF_FORMAT_PCM_24, 24},
    [AUDIO_WAV32] = {"wav32", ".wav", "WAV, 32-bit float", SF_FORMAT_WAV | SF_FORMAT_FLOAT, 0},
    [AUDIO_FLAC24] = {"flac", ".flac", "FLAC, 24-bit, lossless", SF_FORMAT_FLAC | SF_FORMAT_PCM_24, 24},
    [AUDIO_FLAC16] = {"flac16", ".flac", "FLAC, 16-bit, lossless", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 16},
    [AUDIO_MP3] = {"mp3", ".mp3", "MP3, constant bit rate", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 0},
    [AUDIO_OPUS] = {"opus", ".opus", "Ogg Opus", SF_FORMAT_OGG | SF_FORMAT_OPUS, 0},
};

/* For sentences: the names and the extensions in one line each. */
#define KNOWN_NAMES "flac, flac16, wav, wav24, wav32, mp3, opus"
#define KNOWN_EXTENSIONS ".flac, .wav, .mp3, .opus"

const char *audio_format_name(audio_format format)
{
    return formats[format].name;
}

const char *audio_format_extension(audio_format format)
{
    return formats[format].extension;
}

const char *audio_format_description(audio_format format)
{
    return formats[format].description;
}

int audio_format_bits(audio_format format)
{
    return formats[format].bits;
}

int audio_format_sndfile(audio_format format)
{
    return formats[format].sndfile;
}

bool audio_format_from_name(const char *name, audio_format *format, ace_error *error)
{
    for (int i = 0; i < AUDIO_FORMAT_COUNT; i++) {
        if (strcasecmp(name, formats[i].name) != 0) continue;
        *format = (audio_format)i;
        return true;
    }
    return ace_fail(error, ACE_ERROR_USAGE, "'%.40s' is not an audio format: use one of " KNOWN_NAMES, name);
}

/* The extension of the last path component with its dot, or "" (a leading dot makes a hidden file, no extension). */
static const char *extension_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? dot : "";
}

/* The format that an extension stands for when no name is given; the most used one of those that share it. */
static bool from_extension(const char *extension, audio_format *format)
{
    static const audio_format preferred[] = {AUDIO_FLAC24, AUDIO_WAV16, AUDIO_MP3, AUDIO_OPUS};
    for (size_t i = 0; i < sizeof preferred / sizeof *preferred; i++) {
        if (strcasecmp(extension, formats[preferred[i]].extension) != 0) continue;
        *format = preferred[i];
        return true;
    }
    return false;
}

bool audio_format_from_path(const char *path, audio_format *format, ace_error *error)
{
    if (from_extension(extension_of(path), format)) return true;
    return ace_fail(error, ACE_ERROR_USAGE,
                    "'%s' does not end in a known audio extension: use one of " KNOWN_EXTENSIONS, path);
}

bool audio_format_choose(const char *path, const char *name, audio_format *format, ace_error *error)
{
    if (!name) return audio_format_from_path(path, format, error);
    audio_format wanted = AUDIO_FLAC24, meant;
    if (!audio_format_from_name(name, &wanted, error)) return false;
    if (from_extension(extension_of(path), &meant) && strcmp(formats[meant].extension, formats[wanted].extension) != 0)
        return ace_fail(error, ACE_ERROR_USAGE,
                        "format '%s' does not go with the name '%s': end it in %s or leave the format out",
                        formats[wanted].name, path, formats[wanted].extension);
    *format = wanted;
    return true;
}

bool audio_format_check(audio_format format, ace_error *error)
{
    SF_INFO info = {.samplerate = AUDIO_SAMPLE_RATE, .channels = AUDIO_CHANNELS, .format = formats[format].sndfile};
    if (sf_format_check(&info)) return true;
    return ace_fail(
        error, ACE_ERROR_USAGE,
        "the audio library of this system (%s) cannot write %s: write flac or wav, or install a newer libsndfile",
        sf_version_string(), formats[format].name);
}
