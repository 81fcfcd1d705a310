#include "lm/lm_prompt.h"

#include "base/error.h"
#include "lm/lm_yaml.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define GENERATE "Generate audio semantic tokens based on the given conditions:"
#define UNDERSTAND "Understand the given musical conditions and describe the audio semantics accordingly:"
#define INSPIRE "Expand the user's input into a more detailed and specific musical description:"
#define FORMAT "Format the user's input into a more detailed and specific musical description:"
#define NOTHING "NO USER INPUT"

/* ---- the chat template, as far as it is used ---------------------------------------------------------------- */

/* Appends the beginning of a prompt; the user's content follows. */
static void begin(ace_text *prompt, const char *instruction)
{
    ace_text_format(prompt, "<|im_start|>system\n# Instruction\n%s\n\n<|im_end|>\n<|im_start|>user\n", instruction);
}

static void answer(ace_text *prompt)
{
    ace_text_add(prompt, "<|im_end|>\n<|im_start|>assistant\n");
}

/* False, naming it, for text that is not UTF-8. */
static bool check(const char *what, const char *text, ace_error *error)
{
    size_t bad;
    return !text || ace_utf8_valid(text, strlen(text), &bad) ||
           ace_fail(error, ACE_ERROR_USAGE, "the %s is not UTF-8 at byte %zu", what, bad);
}

static const char *known(const char *text)
{
    return text ? text : "";
}

/* ---- the plan ---------------------------------------------------------------------------------------------- */

/* Appends digits of any script as a number: without leading zeros. */
static void write_digits(ace_text *out, lm_slice digits)
{
    bool significant = false;
    for (size_t at = 0; at < digits.length;) {
        int digit = lm_digit(unicode_next(digits.data, &at));
        significant = significant || digit > 0 || at == digits.length;
        if (significant) ace_text_format(out, "%d", digit);
    }
}

/* Appends "name: value\n". Text that is a number is written as one; of a time signature in quarters the beats. */
static bool write_field(ace_text *out, lm_field field, const lm_value *value, ace_error *error)
{
    const char *name = lm_field_name(field);
    lm_slice text = lm_slice_of(value->kind == LM_TEXT ? value->text : "");
    if (field == LM_TIMESIGNATURE && text.length >= 2 && strcmp(text.data + text.length - 2, "/4") == 0)
        text.length = strcspn(text.data, "/");
    if (value->kind == LM_TEXT && (text.length == 0 || lm_digits_end(text, 0) < text.length))
        return lm_yaml_write(out, name, text, error);
    ace_text_format(out, "%s: ", name);
    if (value->kind == LM_TEXT)
        write_digits(out, text);
    else
        lm_value_write(out, value);
    ace_text_add(out, "\n");
    return true;
}

/* Appends the plan between its tags. */
static bool write_plan(ace_text *out, const lm_metadata *plan, ace_error *error)
{
    ace_text body = {0};
    bool ok = true;
    for (lm_field field = 0; ok && field < LM_FIELD_COUNT; field++) {
        const lm_value *value = &plan->fields[field];
        if (field == LM_GENRES || value->kind == LM_ABSENT) continue;
        ok = value->kind != LM_TEXT || check(lm_field_name(field), value->text, error);
        ok = ok && write_field(&body, field, value, error);
    }
    lm_slice trimmed = lm_trim((lm_slice){body.data ? body.data : "", body.length});
    ace_text_add(out, "<think>\n");
    ace_text_bytes(out, trimmed.data, trimmed.length);
    ace_text_add(out, "\n</think>");
    out->failed = out->failed || body.failed;
    ace_text_free(&body);
    return ok;
}

char *lm_prompt_think(const lm_metadata *plan, ace_error *error)
{
    ace_text text = {0};
    if (write_plan(&text, plan, error)) return ace_text_take(&text, error);
    ace_text_free(&text);
    return NULL;
}

/* ---- prompts ----------------------------------------------------------------------------------------------- */

static void generation(ace_text *prompt, const char *caption, const char *lyrics)
{
    begin(prompt, GENERATE);
    ace_text_format(prompt, "# Caption\n%s\n\n# Lyric\n%s\n", known(caption), known(lyrics));
    answer(prompt);
}

char *lm_prompt_plan(const char *caption, const char *lyrics, ace_error *error)
{
    if (!check("caption", caption, error) || !check("lyrics", lyrics, error)) return NULL;
    ace_text prompt = {0};
    generation(&prompt, caption, lyrics);
    return ace_text_take(&prompt, error);
}

char *lm_prompt_codes(const char *caption, const char *lyrics, const lm_metadata *plan, ace_error *error)
{
    if (!check("caption", caption, error) || !check("lyrics", lyrics, error)) return NULL;
    ace_text prompt = {0};
    generation(&prompt, caption, lyrics);
    if (!write_plan(&prompt, plan, error)) {
        ace_text_free(&prompt);
        return NULL;
    }
    ace_text_add(&prompt, "\n\n");
    return ace_text_take(&prompt, error);
}

char *lm_prompt_codes_unconditional(const char *negative_prompt, ace_error *error)
{
    if (!check("negative prompt", negative_prompt, error)) return NULL;
    ace_text prompt = {0};
    begin(&prompt, GENERATE);
    /* " NO USER INPUT " is the same as nothing, and anything else goes in untrimmed */
    bool nothing = lm_blank(negative_prompt) || lm_slice_is(lm_trim(lm_slice_of(negative_prompt)), NOTHING);
    ace_text_add(&prompt, nothing ? NOTHING : negative_prompt);
    answer(&prompt);
    ace_text_add(&prompt, "<think>\n\n</think>\n\n");
    return ace_text_take(&prompt, error);
}

char *lm_prompt_understand(const char *codes, ace_error *error)
{
    if (!check("text of audio codes", codes, error)) return NULL;
    ace_text prompt = {0};
    begin(&prompt, UNDERSTAND);
    ace_text_add(&prompt, lm_blank(codes) ? NOTHING : codes);
    answer(&prompt);
    return ace_text_take(&prompt, error);
}

char *lm_prompt_inspire(const char *idea, bool instrumental, ace_error *error)
{
    if (!check("idea", idea, error)) return NULL;
    ace_text prompt = {0};
    begin(&prompt, INSPIRE);
    ace_text_format(&prompt, "%s\n\ninstrumental: %s", lm_blank(idea) ? NOTHING : idea,
                    instrumental ? "true" : "false");
    answer(&prompt);
    return ace_text_take(&prompt, error);
}

char *lm_prompt_format(const char *caption, const char *lyrics, ace_error *error)
{
    if (!check("caption", caption, error) || !check("lyrics", lyrics, error)) return NULL;
    ace_text prompt = {0};
    begin(&prompt, FORMAT);
    ace_text_format(&prompt, "# Caption\n%s\n\n# Lyric\n%s", lm_blank(caption) ? NOTHING : caption,
                    lm_blank(lyrics) ? "[Instrumental]" : lyrics);
    answer(&prompt);
    return ace_text_take(&prompt, error);
}

/* ---- tokens ------------------------------------------------------------------------------------------------ */

bool lm_prompt_encode(const ace_tokenizer *tokenizer, const char *prompt, size_t answer_tokens, size_t context,
                      ace_ids *ids, ace_error *error)
{
    size_t before = ids->count;
    if (!tokenizer_encode(tokenizer, prompt, strlen(prompt), ids, error)) return false;
    size_t count = ids->count - before, room = context > answer_tokens ? context - answer_tokens : 0;
    if (count <= room) return true;
    ids->count = before;
    return ace_fail(
        error, ACE_ERROR_USAGE,
        "caption and lyrics make a prompt of %zu tokens, but the language model has room for %zu beside its "
        "answer of up to %zu: shorten the lyrics",
        count, room, answer_tokens);
}
