#include "audio/tag_codecs.h"
#include "base/bytes.h"
#include "base/error.h"

#include <string.h>

/* Layout: "ID3", version, revision, flags, 4-byte size; then frames: id, 4-byte size, 2 flag bytes, data. Sizes are
 * "synchsafe" (7 bits a byte), except those of v2.3 frames. */
enum { ID3_HEADER = 10, FRAME_HEADER = 10 };
enum { ENCODING_LATIN1 = 0, ENCODING_UTF16 = 1, ENCODING_UTF16BE = 2, ENCODING_UTF8 = 3 };

/* ---- writing ------------------------------------------------------------------------------------------------- */

static void add_synchsafe(ace_text *out, size_t value)
{
    for (int shift = 21; shift >= 0; shift -= 7) {
        char byte = (char)(value >> shift & 0x7f);
        ace_text_bytes(out, &byte, 1);
    }
}

/* A text frame; a comment frame (COMM) has a language and an empty description before its text. */
static void add_frame(ace_text *out, const char *id, const char *text)
{
    static const char comment_prefix[] = {ENCODING_UTF8, 'u', 'n', 'd', 0};
    if (!text) return;
    size_t prefix = strcmp(id, "COMM") == 0 ? sizeof comment_prefix : 1;
    ace_text_bytes(out, id, 4);
    add_synchsafe(out, prefix + strlen(text));
    ace_text_bytes(out, "\0", 2);
    ace_text_bytes(out, comment_prefix, prefix);
    ace_text_add(out, text);
}

void id3_encode_tags(const audio_tags *tags, ace_text *out)
{
    ace_text frames = {0};
    add_frame(&frames, "TIT2", tags->title);
    add_frame(&frames, "TPE1", tags->artist);
    add_frame(&frames, "TSSE", tags->software);
    add_frame(&frames, "COMM", tags->comment);
    if (frames.failed) {
        out->failed = true;
    } else if (frames.length > 0) {
        static const char start[6] = {'I', 'D', '3', 4, 0, 0};
        ace_text_bytes(out, start, sizeof start);
        add_synchsafe(out, frames.length);
        ace_text_bytes(out, frames.data, frames.length);
    }
    ace_text_free(&frames);
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static bool read_synchsafe(const uint8_t *p, size_t *value)
{
    if ((p[0] | p[1] | p[2] | p[3]) & 0x80) return false;
    *value = (size_t)p[0] << 21 | (size_t)p[1] << 14 | (size_t)p[2] << 7 | p[3];
    return true;
}

static void add_code_point(ace_text *out, uint32_t c)
{
    char bytes[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6) bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)(lead[n] | c);
    ace_text_bytes(out, bytes, n);
}

/* n bytes of UTF-16 as UTF-8; a lone surrogate becomes an ill-formed sequence, which tags_set() refuses. */
static void add_utf16(ace_text *out, const uint8_t *p, size_t n, bool big)
{
    if (n >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff))) {
        big = p[0] == 0xfe;
        p += 2;
        n -= 2;
    }
    for (size_t i = 0; i + 1 < n; i += 2) {
        uint32_t c = (uint32_t)p[i + big] | (uint32_t)p[i + !big] << 8;
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < n) {
            uint32_t low = (uint32_t)p[i + 2 + big] | (uint32_t)p[i + 2 + !big] << 8;
            if (low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            }
        }
        add_code_point(out, c);
    }
}

/* Sets *slot from a text in one of ID3's encodings, up to its first terminator. */
static bool set_text(char **slot, int encoding, const uint8_t *p, size_t n, const char *id, ace_error *error)
{
    if (encoding == ENCODING_UTF8) {
        const uint8_t *end = memchr(p, 0, n);
        return tags_set(slot, p, end ? (size_t)(end - p) : n, id, error);
    }
    ace_text utf8 = {0};
    if (encoding == ENCODING_LATIN1)
        for (size_t i = 0; i < n && p[i]; i++) add_code_point(&utf8, p[i]);
    else
        add_utf16(&utf8, p, n, encoding == ENCODING_UTF16BE);
    bool ok = utf8.failed   ? ace_fail_memory(error, "a tag", n)
              : utf8.length ? tags_set(slot, (const uint8_t *)utf8.data, strnlen(utf8.data, utf8.length), id, error)
                            : true;
    ace_text_free(&utf8);
    return ok;
}

/* A comment frame: encoding, three letters of language, a description, its terminator, the text. Only the one without a
 * description is the file's comment; players keep their own data in others. */
static bool set_comment(char **slot, const uint8_t *p, size_t n, ace_error *error)
{
    if (n < 4) return true;
    int encoding = p[0];
    bool wide = encoding == ENCODING_UTF16 || encoding == ENCODING_UTF16BE;
    p += 4;
    n -= 4;
    if (wide && n >= 2 && (p[0] ^ p[1]) == 1 && (p[0] | p[1]) == 0xff) { /* byte order mark of the description */
        p += 2;
        n -= 2;
    }
    size_t terminator = wide ? 2 : 1;
    if (n < terminator || p[0] != 0 || (wide && p[1] != 0)) return true;
    return set_text(slot, encoding, p + terminator, n - terminator, "COMM", error);
}

bool id3_decode_tags(audio_tags *tags, const uint8_t *data, size_t size, ace_error *error)
{
    const struct {
        const char *id;
        char **slot;
    } known[] = {{"TIT2", &tags->title}, {"TPE1", &tags->artist}, {"TSSE", &tags->software}};
    size_t end;
    if (size < ID3_HEADER || !read_synchsafe(data + 6, &end) || end > size - ID3_HEADER)
        return ace_fail(error, ACE_ERROR_FORMAT, "the MP3 file's ID3 tag is cut off or damaged");
    if ((data[3] != 3 && data[3] != 4) || data[5] != 0)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "the MP3 file's ID3 tag is of a kind that is not read (version 2.%d, flags %02x)", data[3],
                        data[5]);
    end += ID3_HEADER;
    for (size_t at = ID3_HEADER; end - at >= FRAME_HEADER && data[at] != 0;) {
        const uint8_t *frame = data + at;
        size_t length = bytes_be32(frame + 4);
        bool sized = data[3] == 3 || read_synchsafe(frame + 4, &length);
        if (!sized || length > end - at - FRAME_HEADER)
            return ace_fail(error, ACE_ERROR_FORMAT, "the MP3 file's ID3 tag is damaged at offset %zu", at);
        const uint8_t *body = frame + FRAME_HEADER;
        at += FRAME_HEADER + length;
        if (frame[9] != 0 || length < 1) continue; /* compressed, encrypted or otherwise transformed: not ours */
        if (memcmp(frame, "COMM", 4) == 0 && !set_comment(&tags->comment, body, length, error)) return false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (memcmp(frame, known[i].id, 4) == 0 &&
                !set_text(known[i].slot, body[0], body + 1, length - 1, known[i].id, error))
                return false;
    }
    return true;
}
