#include "audio/audio_writer.h"

#include "audio/ogg_retag.h"
#include "audio/sndfile_format.h"
#include "audio/tag_codecs.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096 }; /* frames that are converted at a time */

struct audio_writer {
    ace_new_file file;
    SNDFILE *encoder;
    audio_format format;
    int rate;
    int64_t frames;
    ace_text front;  /* MP3: the ID3 tag before libsndfile's stream */
    ace_text back;   /* WAV: the LIST chunk behind it */
    ogg_retag *ogg;  /* Opus: what stands between libsndfile and the file */
    int64_t at, end; /* libsndfile's position in its stream, and the stream's length */
    ace_error error; /* the first failure; set, nothing more is written */
    union {
        int32_t integers[BLOCK * AUDIO_CHANNELS];
        float floats[BLOCK * AUDIO_CHANNELS];
    } block;
};

/* ---- libsndfile's view of the file ------------------------------------------------------------------------- */

static sf_count_t stream_length(void *user)
{
    return ((audio_writer *)user)->end;
}

static sf_count_t stream_tell(void *user)
{
    return ((audio_writer *)user)->at;
}

static sf_count_t stream_seek(sf_count_t offset, int whence, void *user)
{
    audio_writer *w = user;
    sf_count_t from = whence == SEEK_CUR ? w->at : whence == SEEK_END ? w->end : 0;
    if (offset < -from) return -1;
    w->at = from + offset;
    return w->at;
}

/* No encoder reads back what it wrote. */
static sf_count_t stream_read(void *bytes, sf_count_t n, void *user)
{
    (void)bytes, (void)n, (void)user;
    return 0;
}

static bool write_at(audio_writer *w, int64_t offset, const void *bytes, size_t n)
{
    if (lseek(w->file.fd, (off_t)offset, SEEK_SET) < 0)
        return ace_fail(&w->error, ACE_ERROR_IO, "cannot write '%s': it is not seekable", w->file.path);
    return ace_write_all(w->file.fd, bytes, n, w->file.path, &w->error);
}

static sf_count_t stream_write(const void *bytes, sf_count_t n, void *user)
{
    audio_writer *w = user;
    if (w->error.status != ACE_OK || n <= 0) return 0;
    bool ok;
    if (w->ogg) /* pages come in order, never a second time */
        ok = w->at == w->end ? ogg_retag_write(w->ogg, bytes, (size_t)n, &w->error)
                             : ace_fail(&w->error, ACE_ERROR_INTERNAL, "'%s': the Opus encoder went back in its stream",
                                        w->file.path);
    else
        ok = write_at(w, (int64_t)w->front.length + w->at, bytes, (size_t)n);
    if (!ok) return 0;
    w->at += n;
    if (w->at > w->end) w->end = w->at;
    return n;
}

/* ---- opening ----------------------------------------------------------------------------------------------- */

static bool check_tag(const char *text, const char *name, ace_error *error)
{
    size_t n = text ? strlen(text) : 0;
    if (n > AUDIO_TAG_LIMIT)
        return ace_fail(error, ACE_ERROR_USAGE, "the %s for the audio file has %zu bytes: at most %zu are possible",
                        name, n, AUDIO_TAG_LIMIT);
    if (n && !ace_utf8_valid(text, n, NULL))
        return ace_fail(error, ACE_ERROR_USAGE, "the %s for the audio file is not UTF-8 text", name);
    return true;
}

/* libsndfile appends its own name to a FLAC's software tag, in 128 bytes. */
#define SOFTWARE_LIMIT 96

static bool check_options(const audio_writer_options *options, ace_error *error)
{
    const audio_tags *tags = &options->tags;
    int mp3 = options->mp3_kbps, opus = options->opus_kbps;
    if (mp3 != 0 && mp3 != 128 && mp3 != 192 && mp3 != 256 && mp3 != 320)
        return ace_fail(error, ACE_ERROR_USAGE, "an MP3 bit rate of %d kbit/s is not offered: use 128, 192, 256 or 320",
                        mp3);
    if (opus != 0 && (opus < 12 || opus > 510))
        return ace_fail(error, ACE_ERROR_USAGE, "an Opus bit rate of %d kbit/s is not possible: use 12 to 510", opus);
    if (tags->software && strlen(tags->software) > SOFTWARE_LIMIT)
        return ace_fail(error, ACE_ERROR_USAGE, "the program's name for the audio file exceeds %d bytes",
                        SOFTWARE_LIMIT);
    return check_tag(tags->title, "title", error) && check_tag(tags->artist, "artist", error) &&
           check_tag(tags->software, "program's name", error) && check_tag(tags->comment, "comment", error) &&
           audio_format_check(options->format, error);
}

/* An empty text is no text: not every container can tell them apart. */
static char *text_or_null(char *text)
{
    return text && *text ? text : NULL;
}

/* Tags that stand outside of libsndfile's stream, which are all but FLAC's. */
static bool prepare_tags(audio_writer *w, const audio_tags *tags, ace_error *error)
{
    ace_text packet = {0};
    switch (w->format) {
    case AUDIO_WAV16:
    case AUDIO_WAV24:
    case AUDIO_WAV32:
        riff_encode_info(tags, &w->back);
        break;
    case AUDIO_MP3:
        id3_encode_tags(tags, &w->front);
        break;
    case AUDIO_OPUS:
        ace_text_add(&packet, "OpusTags");
        vorbis_encode_comments(tags, sf_version_string(), &packet);
        if (!packet.failed)
            w->ogg = ogg_retag_open(w->file.fd, w->file.path, (const uint8_t *)packet.data, packet.length, error);
        break;
    default:
        break;
    }
    bool ok = !w->front.failed && !w->back.failed && !packet.failed && (w->format != AUDIO_OPUS || w->ogg);
    ace_text_free(&packet);
    if (!ok) return ace_fail_memory(error, "the tags of an audio file", tags->comment ? strlen(tags->comment) : 0);
    if (w->front.length && !ace_write_all(w->file.fd, w->front.data, w->front.length, w->file.path, error))
        return false;
    return true;
}

static bool set_flac_tags(audio_writer *w, const audio_tags *tags)
{
    const struct {
        int type;
        const char *text;
    } strings[] = {{SF_STR_TITLE, tags->title},
                   {SF_STR_ARTIST, tags->artist},
                   {SF_STR_SOFTWARE, tags->software},
                   {SF_STR_COMMENT, tags->comment}};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        if (strings[i].text && sf_set_string(w->encoder, strings[i].type, strings[i].text) != 0) return false;
    return true;
}

/* libsndfile knows a "compression level" in [0, 1] where the encoders know kbit/s; these are its formulas turned
 * around, aimed half a unit above the wanted rate because it truncates. */
static bool set_bit_rate(audio_writer *w, const audio_writer_options *options)
{
    double level;
    if (w->format == AUDIO_MP3) {
        int kbps = options->mp3_kbps ? options->mp3_kbps : 128;
        level = kbps == 320 ? 0.0 : (320.0 - (kbps + 0.5)) / (320.0 - 32.0);
    } else {
        int kbps = options->opus_kbps ? options->opus_kbps : 128;
        level = 1.0 - (kbps * 1000.0 / AUDIO_CHANNELS + 0.5 - 6000.0) / 250000.0;
    }
    if (sf_command(w->encoder, SFC_SET_COMPRESSION_LEVEL, &level, sizeof level) != SF_TRUE) return false;
    int mode = SF_BITRATE_MODE_CONSTANT;
    return w->format != AUDIO_MP3 || sf_command(w->encoder, SFC_SET_BITRATE_MODE, &mode, sizeof mode) == SF_TRUE;
}

static bool open_encoder(audio_writer *w, const audio_writer_options *options, const audio_tags *tags)
{
    SF_VIRTUAL_IO io = {stream_length, stream_seek, stream_read, stream_write, stream_tell};
    SF_INFO info = {.samplerate = w->rate, .channels = AUDIO_CHANNELS, .format = audio_format_sndfile(w->format)};
    w->encoder = sf_open_virtual(&io, SFM_WRITE, &info, w);
    if (!w->encoder)
        return ace_fail(&w->error, ACE_ERROR_USAGE, "'%s': %s at %d frames per second cannot be written: %s",
                        w->file.path, audio_format_name(w->format), w->rate, sf_strerror(NULL));
    bool ok = true;
    switch (w->format) {
    case AUDIO_WAV32: /* libsndfile's PEAK chunk holds the time of day */
        sf_command(w->encoder, SFC_SET_ADD_PEAK_CHUNK, NULL, SF_FALSE);
        break;
    case AUDIO_FLAC16:
    case AUDIO_FLAC24:
        ok = set_flac_tags(w, tags);
        break;
    case AUDIO_MP3:
    case AUDIO_OPUS:
        ok = set_bit_rate(w, options);
        break;
    default:
        break;
    }
    if (ok) return true;
    return ace_fail(&w->error, ACE_ERROR_INTERNAL, "'%s': the audio library refuses a setting for %s: %s", w->file.path,
                    audio_format_name(w->format), sf_strerror(w->encoder));
}

audio_writer *audio_writer_open(const char *path, const audio_writer_options *options, ace_error *error)
{
    if (!check_options(options, error)) return NULL;
    audio_writer *w = ace_calloc(1, sizeof *w, "the audio writer", error);
    if (!w) return NULL;
    w->file.fd = -1;
    w->format = options->format;
    w->rate = options->rate;
    const audio_tags tags = {.title = text_or_null(options->tags.title),
                             .artist = text_or_null(options->tags.artist),
                             .software = text_or_null(options->tags.software),
                             .comment = text_or_null(options->tags.comment)};
    if (ace_new_file_begin(&w->file, path, options->replace, &w->error) && prepare_tags(w, &tags, &w->error) &&
        open_encoder(w, options, &tags) && w->error.status == ACE_OK)
        return w;
    ace_fail(error, w->error.status, "%s", w->error.message);
    audio_writer_abandon(w);
    return NULL;
}

/* ---- samples ----------------------------------------------------------------------------------------------- */

/* Nearest integer of `bits` bits, clipped, in the upper bits of 32 as libsndfile expects them. */
static int32_t quantise(float x, int bits)
{
    double full = (double)(1 << (bits - 1));
    double scaled = (double)x * full;
    if (scaled > full - 1.0) scaled = full - 1.0;
    if (scaled < -full) scaled = -full;
    return (int32_t)(lrint(scaled) * (1L << (32 - bits)));
}

/* Converts and encodes at most BLOCK frames. */
static bool write_block(audio_writer *w, const float *frames, size_t n)
{
    int bits = audio_format_bits(w->format);
    for (size_t i = 0; i < n * AUDIO_CHANNELS; i++) {
        float x = frames[i];
        if (!isfinite(x))
            return ace_fail(&w->error, ACE_ERROR_NUMERIC,
                            "'%s': the audio has a sample that is not a number at second %.3f: no file is written",
                            w->file.path, ((double)w->frames + (double)(i / AUDIO_CHANNELS)) / w->rate);
        if (bits)
            w->block.integers[i] = quantise(x, bits);
        else
            w->block.floats[i] = w->format == AUDIO_WAV32 ? x : fminf(fmaxf(x, -1.0f), 1.0f);
    }
    sf_count_t done = bits ? sf_writef_int(w->encoder, w->block.integers, (sf_count_t)n)
                           : sf_writef_float(w->encoder, w->block.floats, (sf_count_t)n);
    w->frames += (int64_t)n;
    if (w->error.status != ACE_OK) return false; /* the file refused bytes */
    if (done != (sf_count_t)n)
        return ace_fail(&w->error, ACE_ERROR_IO, "cannot encode '%s': %s", w->file.path, sf_strerror(w->encoder));
    return true;
}

/* RIFF sizes have 32 bits. Room is left for the header. */
static bool check_length(audio_writer *w, size_t n)
{
    int64_t sample = w->format == AUDIO_WAV16 ? 2 : w->format == AUDIO_WAV24 ? 3 : w->format == AUDIO_WAV32 ? 4 : 0;
    if (sample == 0) return true;
    int64_t room = ((int64_t)UINT32_MAX - 4096 - (int64_t)w->back.length) / (sample * AUDIO_CHANNELS) - w->frames;
    if (room >= 0 && n <= (uint64_t)room) return true;
    return ace_fail(&w->error, ACE_ERROR_USAGE, "'%s' would exceed the 4 GiB of a WAV file: write flac", w->file.path);
}

bool audio_writer_write(audio_writer *w, const float *frames, size_t n, ace_error *error)
{
    bool ok = w->error.status == ACE_OK && check_length(w, n);
    for (size_t done = 0; ok && done < n; done += BLOCK)
        ok = write_block(w, frames + done * AUDIO_CHANNELS, n - done < BLOCK ? n - done : BLOCK);
    return ok || ace_fail(error, w->error.status, "%s", w->error.message);
}

/* ---- the end ----------------------------------------------------------------------------------------------- */

/* Lets libsndfile write its last bytes and headers, then what stands outside of its stream. */
static bool complete(audio_writer *w)
{
    int failed = sf_close(w->encoder);
    w->encoder = NULL;
    if (w->error.status != ACE_OK) return false;
    if (failed)
        return ace_fail(&w->error, ACE_ERROR_IO, "cannot finish '%s': %s", w->file.path, sf_error_number(failed));
    if (w->ogg) return ogg_retag_complete(w->ogg, &w->error);
    if (w->back.length == 0) return true;
    uint8_t riff_size[4]; /* of everything behind this field, our chunk included */
    bytes_put_le32(riff_size, (uint32_t)(w->end + (int64_t)w->back.length - 8));
    return write_at(w, w->end, w->back.data, w->back.length) && write_at(w, 4, riff_size, sizeof riff_size);
}

bool audio_writer_finish(audio_writer *w, ace_error *error)
{
    if (w->error.status == ACE_OK && w->frames == 0)
        ace_fail(&w->error, ACE_ERROR_NUMERIC, "'%s' would hold no audio at all: no file is written", w->file.path);
    bool ok = w->error.status == ACE_OK && complete(w) && ace_new_file_commit(&w->file, &w->error);
    if (!ok) ace_fail(error, w->error.status, "%s", w->error.message);
    audio_writer_abandon(w);
    return ok;
}

void audio_writer_abandon(audio_writer *w)
{
    if (!w) return;
    /* Closing flushes the encoder; what it still writes goes nowhere. */
    ace_fail(&w->error, ACE_CANCELLED, "abandoned");
    if (w->encoder) sf_close(w->encoder);
    ogg_retag_close(w->ogg);
    ace_text_free(&w->front);
    ace_text_free(&w->back);
    ace_new_file_abandon(&w->file);
    free(w);
}
