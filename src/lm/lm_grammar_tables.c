#include "lm/lm_grammar_tables.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tokens --------------------------------------------------------------------------------------------------- */

/* The one token that `text` is, -1 when it takes several. False on an error. */
static bool single_token(const ace_tokenizer *tokenizer, const char *text, size_t n, int32_t *id, ace_error *error)
{
    ace_ids ids = {0};
    bool ok = tokenizer_encode(tokenizer, text, n, &ids, error);
    *id = ok && ids.count == 1 ? ids.data[0] : -1;
    ace_ids_free(&ids);
    return ok;
}

static bool need_added(const ace_tokenizer *tokenizer, const char *literal, int32_t *id, ace_error *error)
{
    *id = tokenizer_added(tokenizer, literal);
    if (*id >= 0) return true;
    return ace_fail(error, ACE_ERROR_MODEL, "the tokenizer has no %s: use the one that came with the planner", literal);
}

static bool find_tokens(lm_grammar *grammar, ace_error *error)
{
    const ace_tokenizer *tokenizer = grammar->tokenizer;
    grammar->limit = tokenizer_limit(tokenizer);
    grammar->codes_first = tokenizer_audio_first(tokenizer);
    grammar->codes_count = tokenizer_audio_count(tokenizer);
    if (grammar->codes_count > LM_CODES) grammar->codes_count = LM_CODES;
    if (grammar->codes_first < 0 || grammar->codes_count < 1)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the tokenizer has no audio codes: use the one that came with the planner");
    grammar->pad = tokenizer_added(tokenizer, "<|endoftext|>");
    if (!need_added(tokenizer, "<|im_end|>", &grammar->end, error) ||
        !need_added(tokenizer, "</think>", &grammar->think_end, error) ||
        !single_token(tokenizer, "\n", 1, &grammar->newline, error) ||
        !single_token(tokenizer, "`", 1, &grammar->backtick, error))
        return false;
    if (grammar->newline < 0) return ace_fail(error, ACE_ERROR_MODEL, "the tokenizer has no token for a line feed");
    return true;
}

/* True when every character of the n bytes is white space, as the reference sees it. */
static bool is_blank(const char *bytes, size_t n)
{
    if (!ace_utf8_valid(bytes, n, NULL)) return false;
    return lm_trim((lm_slice){bytes, n}).length == 0;
}

static bool find_traits(lm_grammar *grammar, ace_error *error)
{
    grammar->traits = ace_calloc((size_t)grammar->limit, 1, "the traits of the tokens", error);
    if (!grammar->traits) return false;
    for (int32_t id = 0; id < grammar->limit; id++) {
        size_t n;
        const char *bytes = tokenizer_token_bytes(grammar->tokenizer, id, &n);
        if (!bytes || n == 0) continue;
        uint8_t traits = 0;
        char literal[64] = {0}; /* added tokens are shorter */
        if (n < sizeof literal) memcpy(literal, bytes, n);
        if (n >= sizeof literal || tokenizer_added(grammar->tokenizer, literal) != id) traits |= LM_TRAIT_TEXT;
        if (bytes[0] == ' ' || bytes[0] == '\t') traits |= LM_TRAIT_INDENT;
        if (memchr(bytes, '\n', n)) traits |= LM_TRAIT_NEWLINE;
        if (memchr(bytes, ':', n)) traits |= LM_TRAIT_COLON;
        if (is_blank(bytes, n)) traits |= LM_TRAIT_BLANK;
        grammar->traits[id] = traits;
    }
    return true;
}

/* ---- forced texts --------------------------------------------------------------------------------------------- */

/* Natural: as the tokenizer writes the whole text, which is what the model was trained on. */
static bool natural_run(lm_grammar *grammar, const char *text, lm_run *run, ace_error *error)
{
    ace_ids ids = {0};
    bool ok = tokenizer_encode(grammar->tokenizer, text, strlen(text), &ids, error);
    if (ok && ids.count > LM_RUN_TOKENS)
        ok = ace_fail(error, ACE_ERROR_MODEL, "the tokenizer cuts \"%s\" into %zu tokens", text, ids.count);
    if (ok) {
        memcpy(run->ids, ids.data, ids.count * sizeof *ids.data);
        run->count = ids.count;
    }
    ace_ids_free(&ids);
    return ok;
}

/* Official (spec/lm.md 4.4): again and again the longest prefix of what is left that is a single token. */
static bool greedy_run(lm_grammar *grammar, const char *text, lm_run *run, ace_error *error)
{
    run->count = 0;
    for (size_t n = strlen(text); n > 0;) {
        int32_t id = -1;
        size_t length = n + 1;
        while (id < 0 && --length > 0)
            if (!single_token(grammar->tokenizer, text, length, &id, error)) return false;
        if (id < 0 || run->count == LM_RUN_TOKENS)
            return ace_fail(error, ACE_ERROR_MODEL, "the tokenizer cannot write \"%s\"", text);
        run->ids[run->count++] = id;
        text += length;
        n -= length;
    }
    return true;
}

static bool make_runs(lm_grammar *grammar, ace_error *error)
{
    bool (*make)(lm_grammar *, const char *, lm_run *, ace_error *) =
        grammar->profile == LM_PROFILE_OFFICIAL ? greedy_run : natural_run;
    char name[32];
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) {
        snprintf(name, sizeof name, "%s:", lm_field_name(field));
        if (!make(grammar, name, &grammar->runs[field], error)) return false;
    }
    if (!make(grammar, "eyscale:", &grammar->runs[LM_RUN_EYSCALE], error)) return false;
    lm_run *think = &grammar->runs[LM_RUN_THINK];
    if (!need_added(grammar->tokenizer, "<think>", &think->ids[0], error)) return false;
    think->ids[1] = grammar->newline;
    think->count = 2;
    return true;
}

/* ---- values --------------------------------------------------------------------------------------------------- */

/* The tokens of " value" in its place: those of "name: value" behind those of "name:" (spec/lm.md 4.3). A value whose
 * tokens do not start like that cannot be written and is left out, as in the reference. */
static bool add_value(lm_grammar *grammar, lm_field field, const char *value, ace_error *error)
{
    char text[64];
    size_t name = (size_t)snprintf(text, sizeof text, "%s:", lm_field_name(field));
    snprintf(text + name, sizeof text - name, " %s", value);
    ace_ids head = {0}, whole = {0};
    bool ok = tokenizer_encode(grammar->tokenizer, text, name, &head, error) &&
              tokenizer_encode(grammar->tokenizer, text, strlen(text), &whole, error);
    if (ok && whole.count > head.count && memcmp(whole.data, head.data, head.count * sizeof *head.data) == 0)
        ok = lm_trie_add(&grammar->tries[field], whole.data + head.count, whole.count - head.count, error);
    ace_ids_free(&head);
    ace_ids_free(&whole);
    return ok;
}

static bool add_numbers(lm_grammar *grammar, lm_field field, int first, int last, ace_error *error)
{
    char value[16];
    for (int number = first; number <= last; number++) {
        snprintf(value, sizeof value, "%d", number);
        if (!add_value(grammar, field, value, error)) return false;
    }
    return true;
}

static bool add_keyscales(lm_grammar *grammar, ace_error *error)
{
    static const char *const accidentals[] = {"", "#", "b", "\u266f", "\u266d"};
    char value[32];
    for (char note = 'A'; note <= 'G'; note++)
        for (int i = 0; i < 10; i++) {
            snprintf(value, sizeof value, "%c%s %s", note, accidentals[i / 2], i % 2 ? "minor" : "major");
            if (!add_value(grammar, LM_KEYSCALE, value, error)) return false;
        }
    return true;
}

static bool make_tries(lm_grammar *grammar, ace_error *error)
{
    enum { BPM_MIN = 30, BPM_MAX = 300 };
    if (!add_numbers(grammar, LM_BPM, BPM_MIN, BPM_MAX, error) ||
        !add_numbers(grammar, LM_DURATION, LM_MIN_DURATION, grammar->max_duration, error) ||
        !add_numbers(grammar, LM_TIMESIGNATURE, 2, 4, error) || !add_value(grammar, LM_TIMESIGNATURE, "6", error) ||
        !add_keyscales(grammar, error))
        return false;
    for (size_t i = 0; i < LM_LANGUAGE_COUNT; i++)
        if (!add_value(grammar, LM_LANGUAGE, lm_language_at(i), error)) return false;
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) {
        if (field == LM_CAPTION || field == LM_GENRES) continue;
        lm_trie *trie = &grammar->tries[field];
        if (!lm_trie_finish(trie, grammar->newline, error)) return false;
        if (lm_token_set_size(lm_trie_allowed(trie, LM_TRIE_ROOT)) == 0)
            return ace_fail(error, ACE_ERROR_MODEL, "the tokenizer cannot write any value of \"%s\"",
                            lm_field_name(field));
    }
    return true;
}

/* ---- sets ----------------------------------------------------------------------------------------------------- */

static bool is_code(const lm_grammar *grammar, int32_t id)
{
    return id >= grammar->codes_first && id < grammar->codes_first + grammar->codes_count;
}

static bool is_audio(const lm_grammar *grammar, int32_t id)
{
    return id >= grammar->codes_first && id - grammar->codes_first < tokenizer_audio_count(grammar->tokenizer);
}

static bool is_member(const lm_grammar *grammar, lm_table_set set, int32_t id)
{
    uint8_t traits = grammar->traits[id];
    bool official = grammar->profile == LM_PROFILE_OFFICIAL;
    bool text = traits & LM_TRAIT_TEXT;
    switch (set) {
    case LM_SET_CAPTION: /* D12 */
        return id != grammar->backtick && (official ? !is_code(grammar, id) : text);
    case LM_SET_GENRES:
        return official || text;
    case LM_SET_GENRES_START:
        return official ? id != grammar->newline : text && !(traits & LM_TRAIT_NEWLINE);
    case LM_SET_LYRICS: /* D13: default has no use for the audio tokens behind the codebook either */
        return official ? !is_code(grammar, id) : !is_audio(grammar, id);
    case LM_SET_CODES:
        return is_code(grammar, id);
    case LM_SET_CODES_OR_END:
        return is_code(grammar, id) || id == grammar->end;
    default:
        return true;
    }
}

static bool make_sets(lm_grammar *grammar, uint64_t *bits, lm_token_range *ranges, ace_error *error)
{
    size_t words = (size_t)grammar->limit / 64 + 1;
    for (lm_table_set set = 0; set < LM_SET_COUNT; set++) {
        memset(bits, 0, words * sizeof *bits);
        for (int32_t id = 0; id < grammar->limit; id++)
            if (is_member(grammar, set, id)) bits[id / 64] |= (uint64_t)1 << (id % 64);
        lm_token_set made = lm_token_set_from_bits(bits, grammar->limit, ranges);
        lm_token_range *kept = ace_calloc(made.count, sizeof *kept, "the grammar's token sets", error);
        if (!kept) return false;
        memcpy(kept, ranges, made.count * sizeof *kept);
        grammar->sets[set] = (lm_token_set){kept, made.count};
    }
    return true;
}

/* Genres with a list: official looks at every token, default at text. Audio codes are in neither. */
static bool open_genres(lm_grammar *grammar, const char *path, uint64_t *bits, ace_error *error)
{
    memset(bits, 0, ((size_t)grammar->limit / 64 + 1) * sizeof *bits);
    for (int32_t id = 0; id < grammar->limit; id++)
        if (grammar->profile == LM_PROFILE_OFFICIAL || (grammar->traits[id] & LM_TRAIT_TEXT))
            bits[id / 64] |= (uint64_t)1 << (id % 64);
    grammar->has_genres = lm_genres_open(&grammar->genres, grammar->profile, path, grammar->tokenizer, bits, error);
    return grammar->has_genres;
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

lm_grammar *lm_grammar_new(const ace_tokenizer *tokenizer, const lm_grammar_options *options, ace_error *error)
{
    int max_duration = options->max_duration ? options->max_duration : LM_MAX_DURATION;
    if (max_duration < LM_MIN_DURATION || max_duration > LM_MAX_DURATION) {
        ace_fail(error, ACE_ERROR_USAGE, "the longest song is %d s: give %d to %d", max_duration, LM_MIN_DURATION,
                 LM_MAX_DURATION);
        return NULL;
    }
    lm_grammar *grammar = ace_calloc(1, sizeof *grammar, "the planner's grammar", error);
    if (!grammar) return NULL;
    grammar->tokenizer = tokenizer;
    grammar->profile = options->profile;
    grammar->max_duration = max_duration;
    bool ok = find_tokens(grammar, error) && find_traits(grammar, error) && make_runs(grammar, error) &&
              make_tries(grammar, error);
    uint64_t *bits = NULL;
    lm_token_range *ranges = NULL;
    if (ok) {
        bits = ace_calloc((size_t)grammar->limit / 64 + 1, sizeof *bits, "the grammar's token sets", error);
        ranges = ace_calloc((size_t)grammar->limit / 2 + 1, sizeof *ranges, "the grammar's token sets", error);
        ok = bits && ranges && make_sets(grammar, bits, ranges, error) &&
             (!options->genres_path || open_genres(grammar, options->genres_path, bits, error));
    }
    free(bits);
    free(ranges);
    if (ok) return grammar;
    lm_grammar_free(grammar);
    return NULL;
}

void lm_grammar_free(lm_grammar *grammar)
{
    if (!grammar) return;
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) lm_trie_free(&grammar->tries[field]);
    for (lm_table_set set = 0; set < LM_SET_COUNT; set++) free((void *)grammar->sets[set].ranges);
    free(grammar->traits);
    lm_genres_free(&grammar->genres);
    free(grammar);
}
