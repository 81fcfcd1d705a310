#include "song/prompt.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum { CODES = 64000 };

static bool blank(const char *text)
{
    return !text || text[strspn(text, " \t\r\n")] == '\0';
}

char *prompt_caption(const char *instruction, const char *caption, const prompt_metas *metas, ace_error *error)
{
    size_t n = strlen(instruction);
    ace_text text = {0};
    ace_text_format(&text, "# Instruction\n%s%s\n\n# Caption\n%s\n\n# Metas\n", instruction,
                    n > 0 && instruction[n - 1] == ':' ? "" : ":", caption);
    if (metas->bpm > 0)
        ace_text_format(&text, "- bpm: %d\n", metas->bpm);
    else
        ace_text_add(&text, "- bpm: N/A\n");
    ace_text_format(&text, "- timesignature: %s\n", blank(metas->timesignature) ? "N/A" : metas->timesignature);
    ace_text_format(&text, "- keyscale: %s\n", blank(metas->keyscale) ? "N/A" : metas->keyscale);
    ace_text_format(&text, "- duration: %d seconds\n<|endoftext|>\n", metas->duration > 0 ? (int)metas->duration : 30);
    return ace_text_take(&text, error);
}

char *prompt_lyrics(const char *language, const char *lyrics, ace_error *error)
{
    ace_text text = {0};
    ace_text_format(&text, "# Languages\n%s\n\n# Lyric\n%s<|endoftext|>", language, lyrics);
    return ace_text_take(&text, error);
}

/* A number at `p` that is a valid code; *end is behind it. */
static bool read_code(const char *p, char **end, int32_t *code, ace_error *error)
{
    unsigned long n = strtoul(p, end, 10);
    if (n >= CODES)
        return ace_fail(error, ACE_ERROR_USAGE, "audio code %.20s is out of range: codes go from 0 to %d", p,
                        CODES - 1);
    *code = (int32_t)n;
    return true;
}

static bool add_code(int32_t **codes, int64_t *count, size_t *capacity, int32_t code, ace_error *error)
{
    if ((size_t)*count == *capacity) {
        size_t grown = *capacity ? *capacity * 2 : 256;
        int32_t *more = ace_realloc(*codes, grown, sizeof *more, "audio codes", error);
        if (!more) return false;
        *codes = more;
        *capacity = grown;
    }
    (*codes)[(*count)++] = code;
    return true;
}

bool prompt_parse_codes(const char *text, int32_t **codes, int64_t *count, ace_error *error)
{
    static const char open[] = "<|audio_code_", close[] = "|>";
    *codes = NULL;
    *count = 0;
    size_t capacity = 0;
    bool ok = true, tokens = strstr(text, open) != NULL;
    for (const char *p = text; ok && *p;) {
        char *end;
        int32_t code = 0;
        if (tokens) {
            p = strstr(p, open);
            if (!p) break;
            p += sizeof open - 1;
            size_t digits = strspn(p, "0123456789");
            if (digits == 0 || strncmp(p + digits, close, sizeof close - 1) != 0) continue;
        } else {
            p += strspn(p, " \t\r\n,;[]");
            if (!*p) break;
            if (strspn(p, "0123456789") == 0)
                ok = ace_fail(error, ACE_ERROR_USAGE,
                              "audio codes contain '%.16s': give <|audio_code_N|> tokens or a list of numbers", p);
        }
        ok = ok && read_code(p, &end, &code, error) && add_code(codes, count, &capacity, code, error);
        if (ok) p = end;
    }
    if (!ok) {
        free(*codes);
        *codes = NULL;
        *count = 0;
    }
    return ok;
}
