#include "lm/lm_genres.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LIST_BYTES = 64 << 20, MAX_TEXT = 512 /* bytes of a genre */ };

/* ---- lower case ----------------------------------------------------------------------------------------------- */

enum { LOWER_BYTES = 4 };

/* The lower case of one character as the reference's str.lower() has it (but for the final sigma, which depends on its
 * neighbours, and which no token and no genre needs). Returns its bytes. */
static size_t lower_character(uint32_t c, char out[LOWER_BYTES])
{
    if (c == 0x130) { /* I WITH DOT ABOVE, the only character that becomes two */
        memcpy(out, "i\xcc\x87", 3);
        return 3;
    }
    c = unicode_lower(c);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[n] | c);
    return n;
}

static void lower(ace_text *out, const char *text, size_t n)
{
    char bytes[LOWER_BYTES];
    for (size_t at = 0; at < n;) {
        size_t length = lower_character(unicode_next(text, &at), bytes);
        ace_text_bytes(out, bytes, length);
    }
}

/* The length of the character at `bytes` when it is whole and well-formed, else 0. */
static size_t character_length(const char *bytes, size_t n)
{
    unsigned char first = (unsigned char)bytes[0];
    size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    return length <= n && ace_utf8_valid(bytes, length, NULL) ? length : 0;
}

/* The lower case of what stands at the front of a token: of a character, or of one byte of a character that is only
 * partly there, which is that byte. *used bytes were read. */
static size_t lower_front(const char *bytes, size_t n, size_t *used, char out[LOWER_BYTES])
{
    *used = character_length(bytes, n);
    if (*used == 0) {
        *used = 1;
        out[0] = bytes[0];
        return 1;
    }
    size_t at = 0;
    return lower_character(unicode_next(bytes, &at), out);
}

/* ---- the list ------------------------------------------------------------------------------------------------- */

typedef struct sorting {
    const char *bytes;
} sorting;

static int compare_texts(const sorting *by, lm_genre_text a, lm_genre_text b)
{
    uint32_t n = a.length < b.length ? a.length : b.length;
    int order = memcmp(by->bytes + a.at, by->bytes + b.at, n);
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_entries(const void *a, const void *b, void *context)
{
    return compare_texts(context, *(const lm_genre_text *)a, *(const lm_genre_text *)b);
}

static int compare_tokens(const void *a, const void *b, void *context)
{
    const lm_genre_token *left = a, *right = b;
    int order = compare_texts(context, left->text, right->text);
    return order != 0 ? order : (left->id > right->id) - (left->id < right->id);
}

static bool add_line(lm_genres *genres, lm_slice line, const char *path, size_t number, ace_error *error)
{
    lm_slice genre = lm_trim(line);
    if (genre.length == 0 || genre.data[0] == '#') return true;
    size_t at = genres->bytes.length;
    lower(&genres->bytes, genre.data, genre.length);
    if (genres->bytes.failed) return ace_fail_memory(error, "the list of genres", genres->bytes.length);
    if (genres->bytes.length - at > MAX_TEXT)
        return ace_fail(error, ACE_ERROR_FORMAT, "%s, line %zu: a genre of more than %d bytes", path, number, MAX_TEXT);
    if (strstr(genres->bytes.data + at, "\xef\xbf\xbd"))
        return ace_fail(error, ACE_ERROR_FORMAT, "%s, line %zu: U+FFFD, so a conversion has damaged the list", path,
                        number);
    genres->entries[genres->count++] = (lm_genre_text){(uint32_t)at, (uint32_t)(genres->bytes.length - at)};
    return true;
}

static bool read_list(lm_genres *genres, const char *path, ace_error *error)
{
    size_t n, bad;
    char *list = ace_read_file(path, MAX_LIST_BYTES, &n, error);
    if (!list) return false;
    bool ok = ace_utf8_valid(list, n, &bad);
    if (!ok) ace_fail(error, ACE_ERROR_FORMAT, "%s is not UTF-8 at byte %zu", path, bad);
    size_t lines = 1, number = 0;
    for (size_t i = 0; i < n; i++) lines += list[i] == '\n' || list[i] == '\r';
    if (ok) ok = (genres->entries = ace_calloc(lines, sizeof *genres->entries, "the list of genres", error)) != NULL;
    for (size_t at = 0; ok && at < n;) {
        size_t end = at;
        while (end < n && list[end] != '\n' && list[end] != '\r') end++;
        ok = add_line(genres, (lm_slice){list + at, end - at}, path, ++number, error);
        at = end + 1;
    }
    free(list);
    if (ok && genres->count == 0) ok = ace_fail(error, ACE_ERROR_FORMAT, "%s names no genre", path);
    return ok;
}

/* ---- tokens --------------------------------------------------------------------------------------------------- */

/* What token `id` adds: official, its text in lower case without trailing white space, or the first character when
 * there is nothing else (*blank); default, its bytes in lower case. */
static bool token_text(lm_genres *genres, const char *bytes, size_t n, ace_text *spare, lm_genre_text *text,
                       bool *blank, ace_error *error)
{
    size_t at = genres->bytes.length;
    *blank = false;
    if (genres->profile == LM_PROFILE_DEFAULT) {
        char front[LOWER_BYTES];
        for (size_t i = 0, used; i < n; i += used) {
            size_t length = lower_front(bytes + i, n - i, &used, front);
            ace_text_bytes(&genres->bytes, front, length);
        }
    } else {
        spare->length = 0;
        unicode_append_lossy(bytes, n, spare);
        if (spare->failed) return ace_fail_memory(error, "the texts of the tokens", spare->length);
        lm_slice whole = {spare->data, spare->length}, trimmed = lm_trim(whole);
        *blank = trimmed.length == 0;
        size_t end =
            *blank ? character_length(whole.data, whole.length) : (size_t)(trimmed.data - whole.data) + trimmed.length;
        lower(&genres->bytes, whole.data, end);
    }
    if (genres->bytes.failed) return ace_fail_memory(error, "the texts of the tokens", genres->bytes.length);
    *text = (lm_genre_text){(uint32_t)at, (uint32_t)(genres->bytes.length - at)};
    return true;
}

static bool read_tokens(lm_genres *genres, const ace_tokenizer *tokenizer, const uint64_t *usable, ace_error *error)
{
    int32_t limit = tokenizer_limit(tokenizer);
    genres->tokens = ace_calloc((size_t)limit, sizeof *genres->tokens, "the texts of the tokens", error);
    genres->blanks = ace_calloc((size_t)limit, sizeof *genres->blanks, "the texts of the tokens", error);
    ace_text spare = {0};
    bool ok = genres->tokens && genres->blanks;
    for (int32_t id = 0; ok && id < limit; id++) {
        size_t n;
        const char *bytes = tokenizer_token_bytes(tokenizer, id, &n);
        if (!bytes || n == 0 || n > MAX_TEXT || !(usable[id / 64] >> (id % 64) & 1)) continue;
        /* The official class looks tokens up by the lower case of their first character, and never finds one of two. */
        if (genres->profile == LM_PROFILE_OFFICIAL && n > 1 && memcmp(bytes, "\xc4\xb0", 2) == 0) continue;
        lm_genre_token token = {.id = id};
        bool blank;
        ok = token_text(genres, bytes, n, &spare, &token.text, &blank, error);
        if (blank)
            genres->blanks[genres->blank_count++] = token;
        else
            genres->tokens[genres->token_count++] = token;
    }
    ace_text_free(&spare);
    return ok;
}

static uint32_t shared_bytes(const char *bytes, lm_genre_text a, lm_genre_text b)
{
    uint32_t n = 0;
    while (n < a.length && n < b.length && bytes[a.at + n] == bytes[b.at + n]) n++;
    return n;
}

bool lm_genres_open(lm_genres *genres, lm_profile profile, const char *path, const ace_tokenizer *tokenizer,
                    const uint64_t *usable, ace_error *error)
{
    genres->profile = profile;
    if (!read_list(genres, path, error) || !read_tokens(genres, tokenizer, usable, error)) {
        lm_genres_free(genres);
        return false;
    }
    sorting by = {genres->bytes.data};
    qsort_r(genres->entries, genres->count, sizeof *genres->entries, compare_entries, &by);
    qsort_r(genres->tokens, genres->token_count, sizeof *genres->tokens, compare_tokens, &by);
    for (size_t i = 1; i < genres->token_count; i++)
        genres->tokens[i].shared = shared_bytes(by.bytes, genres->tokens[i - 1].text, genres->tokens[i].text);
    return true;
}

void lm_genres_free(lm_genres *genres)
{
    ace_text_free(&genres->bytes);
    free(genres->entries);
    free(genres->tokens);
    free(genres->blanks);
    *genres = (lm_genres){0};
}

/* ---- prefixes ------------------------------------------------------------------------------------------------- */

lm_genre_prefix lm_genres_all(const lm_genres *genres)
{
    return (lm_genre_prefix){0, (uint32_t)genres->count, 0};
}

bool lm_genres_complete(const lm_genres *genres, lm_genre_prefix prefix)
{
    /* of the genres with this prefix the shortest sorts first */
    return prefix.first < prefix.end && genres->entries[prefix.first].length == prefix.length;
}

/* The first entry of the range whose byte behind the prefix is at least `byte`; none at all sorts before byte 0. */
static uint32_t lower_bound(const lm_genres *genres, lm_genre_prefix prefix, int byte)
{
    uint32_t low = prefix.first, high = prefix.end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        lm_genre_text entry = genres->entries[middle];
        int next = entry.length > prefix.length ? (unsigned char)genres->bytes.data[entry.at + prefix.length] : -1;
        if (next < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static lm_genre_prefix step_byte(const lm_genres *genres, lm_genre_prefix prefix, char byte)
{
    uint32_t first = lower_bound(genres, prefix, (unsigned char)byte);
    lm_genre_prefix rest = {first, prefix.end, prefix.length};
    return (lm_genre_prefix){first, lower_bound(genres, rest, (unsigned char)byte + 1), prefix.length + 1};
}

lm_genre_prefix lm_genres_step(const lm_genres *genres, lm_genre_prefix prefix, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && prefix.first < prefix.end; i++) prefix = step_byte(genres, prefix, bytes[i]);
    return prefix;
}

static void set_bit(uint64_t *bits, int32_t id)
{
    bits[id / 64] |= (uint64_t)1 << (id % 64);
}

/* Official: white space may come where a genre goes on with the same character, and with a space or a comma. */
static void allow_blanks(const lm_genres *genres, lm_genre_prefix prefix, uint64_t *bits)
{
    lm_genre_prefix space = lm_genres_step(genres, prefix, " ", 1), comma = lm_genres_step(genres, prefix, ",", 1);
    if (space.first == space.end && comma.first == comma.end) return;
    for (size_t i = 0; i < genres->blank_count; i++) {
        lm_genre_text text = genres->blanks[i].text;
        lm_genre_prefix next = lm_genres_step(genres, prefix, genres->bytes.data + text.at, text.length);
        if (next.first < next.end) set_bit(bits, genres->blanks[i].id);
    }
}

void lm_genres_allowed(const lm_genres *genres, lm_genre_prefix prefix, bool start, uint64_t *bits)
{
    if (prefix.first >= prefix.end) return;
    lm_genre_prefix path[MAX_TEXT + 2]; /* path[i]: the genres with the first i bytes of the token's text */
    path[0] = prefix;
    uint32_t alive = 0; /* path[0 ... alive] are not empty */
    bool leading_space = start && genres->profile == LM_PROFILE_DEFAULT;
    for (size_t i = 0; i < genres->token_count; i++) {
        const lm_genre_token *token = &genres->tokens[i];
        if (token->shared > alive) continue; /* starts with bytes that lead nowhere */
        const char *bytes = genres->bytes.data + token->text.at;
        alive = token->shared;
        while (alive < token->text.length) {
            bool skip = leading_space && alive == 0 && bytes[0] == ' ';
            path[alive + 1] = skip ? prefix : step_byte(genres, path[alive], bytes[alive]);
            if (path[alive + 1].first == path[alive + 1].end) break;
            alive++;
        }
        if (alive == token->text.length) set_bit(bits, token->id);
    }
    if (genres->profile == LM_PROFILE_OFFICIAL) allow_blanks(genres, prefix, bits);
}

void lm_genres_write(const lm_genres *genres, const char *bytes, size_t n, bool start, lm_genre_prefix *prefix,
                     lm_genre_prefix *tail)
{
    bool official = genres->profile == LM_PROFILE_OFFICIAL;
    for (size_t i = 0, used; i < n; i += used) {
        char front[LOWER_BYTES];
        size_t length = lower_front(bytes + i, n - i, &used, front);
        size_t whole = character_length(bytes + i, n - i), at = 0;
        bool space = whole > 0 && lm_is_space(unicode_next(bytes + i, &at));
        if (start && (official ? space : bytes[i] == ' ')) {
            start = official;
            continue;
        }
        start = false;
        if (official && whole == 0) { /* the reference sees U+FFFD, which no genre holds */
            *prefix = *tail = (lm_genre_prefix){0};
            return;
        }
        *tail = lm_genres_step(genres, *tail, front, length);
        if (!official || !space) *prefix = *tail;
    }
}
