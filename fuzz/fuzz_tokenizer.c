/* The first byte chooses: 'j' opens the rest as a tokenizer.json and uses what comes out; 'd' decodes the rest as ids;
 * anything else encodes the rest as text. Text and ids go through a fixed small tokenizer. */
#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

/* ---- the fixed tokenizer: all bytes, some merges, Qwen3's added tokens ------------------------------------- */

static const char *const merges[] = {"a a", "aa aa", "Ġ a", "e r", "Ċ Ċ", "ĠĠ Ġ", "Ġ Ġ", "Ã ©", "a b", "aa b"};
static const char *const merged[] = {"aa", "aaaa", "Ġa", "er", "ĊĊ", "ĠĠĠ", "ĠĠ", "Ã©", "ab", "aab"};

enum { MERGES = sizeof merges / sizeof merges[0] };

/* The byte alphabet in its own order; context is a buffer of 256 strings of two bytes. */
static const char *token_at(const void *context, size_t i, size_t *length)
{
    const char(*symbols)[3] = context;
    const char *token = i < 256 ? symbols[i] : merged[i - 256];
    *length = strlen(token);
    return token;
}

static const char *merge_at(const void *context, size_t i, size_t *length)
{
    (void)context;
    *length = strlen(merges[i]);
    return merges[i];
}

static ace_tokenizer *fixed_tokenizer(void)
{
    char symbols[256][3] = {{0}};
    unsigned other = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
        unsigned c = printable ? byte : other++;
        if (c < 0x80) {
            symbols[byte][0] = (char)c;
        } else {
            symbols[byte][0] = (char)(0xc0 | c >> 6);
            symbols[byte][1] = (char)(0x80 | (c & 0x3f));
        }
    }
    tokenizer_strings tokens = {256 + MERGES, token_at, symbols}, lines = {MERGES, merge_at, NULL};
    ace_tokenizer *tokenizer = tokenizer_from_arrays(&tokens, &lines, NULL);
    require(tokenizer && tokenizer_set_audio_codes(tokenizer, 292, 1000, NULL), "the fixed tokenizer opens");
    return tokenizer;
}

/* ---- properties -------------------------------------------------------------------------------------------- */

static void use_text(const ace_tokenizer *tokenizer, const char *text, size_t n, bool fixed)
{
    ace_error error = {0};
    ace_ids ids = {0}, again = {0};
    ace_text back = {0};
    bool encoded = tokenizer_encode(tokenizer, text, n, &ids, &error);
    require(encoded == ace_utf8_valid(text, n, NULL), "exactly UTF-8 can be encoded");
    require(encoded || error.status == ACE_ERROR_USAGE, "other bytes are named");
    if (encoded) {
        require(tokenizer_decode(tokenizer, ids.data, ids.count, &back, &error), "encoded text can be decoded");
        require(ace_utf8_valid(back.data, back.length, NULL), "decoded text is UTF-8");
        require(tokenizer_encode(tokenizer, back.data, back.length, &again, &error), "and encodes");
        bool same = ids.count == again.count && (ids.count == 0 || memcmp(ids.data, again.data, 4 * ids.count) == 0);
        require(same || !fixed, "to the same ids");
    }
    ace_ids_free(&ids);
    ace_ids_free(&again);
    ace_text_free(&back);
}

static void use_ids(const ace_tokenizer *tokenizer, const uint8_t *data, size_t n)
{
    ace_ids ids = {0};
    ace_text text = {0};
    ace_error error = {0};
    int32_t limit = tokenizer_limit(tokenizer);
    for (size_t i = 0; i + 1 < n; i += 2) ace_ids_append(&ids, (data[i] << 8 | data[i + 1]) % limit, NULL);
    require(tokenizer_decode(tokenizer, ids.data, ids.count, &text, &error), "every id decodes");
    require(ace_utf8_valid(text.data, text.length, NULL), "decoded text is UTF-8");
    ace_ids_free(&ids);
    ace_text_free(&text);
}

static void use_json(const char *json, size_t n)
{
    static const char text[] = "Hello <|im_end|> wörld <|audio_code_3|>\n\n  aaab e\u0301 <|endoftext|>";
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_memory(json, n, &error);
    require(!tokenizer == (error.status != ACE_OK), "a tokenizer or an error");
    if (tokenizer) use_text(tokenizer, text, strlen(text), false);
    tokenizer_close(tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static ace_tokenizer *tokenizer; /* immutable, made once for the whole run */
    if (!tokenizer) tokenizer = fixed_tokenizer();
    if (n == 0) return 0;
    if (data[0] == 'j') {
        use_json((const char *)data + 1, n - 1);
        return 0;
    }
    if (data[0] == 'd')
        use_ids(tokenizer, data + 1, n - 1);
    else
        use_text(tokenizer, (const char *)data + 1, n - 1, true);
    return 0;
}
