/* The planner's prompts: random requests through the official program's own generate_music() by hash, the ids of
 * spec/lm.md 3, and texts that nobody should send. */
#include "random_case.h"

#include "base/file.h"
#include "base/memory.h"
#include "lm/lm_prompt.h"

#define QWEN3 SHARED_DATA "/qwen3-tokenizer/tokenizer.json"

/* ---- whole requests against the official program ------------------------------------------------------------- */

/* Appends an owned string and frees it. */
static void take(ace_text *out, char *text)
{
    assert_non_null(text);
    ace_text_add(out, text);
    free(text);
}

static void show_song(ace_text *out, lm_song *song)
{
    ace_text_format(out, "%s|%s|%" PRId64 "|%s|%s|%s|%.17g\n", song->caption, song->lyrics, song->bpm, song->keyscale,
                    song->timesignature, song->language, song->duration);
    lm_song_free(song);
}

static void parse(const ace_text *answer, const lm_metadata *given, lm_metadata *metadata)
{
    assert_true(lm_parse_metadata(LM_PROFILE_OFFICIAL, case_string(answer), answer->length, given, metadata, NULL));
}

typedef struct case_request {
    lm_request request;
    const char *negative;
    bool plan, rewrite, detect, instrumental;
    ace_text caption, lyrics, answer;
} case_request;

static void draw(random_case *random, case_request *c)
{
    case_maybe_text(random, &c->caption);
    case_maybe_text(random, &c->lyrics);
    for (unsigned more = case_below(random, 4); more > 0; more--) {
        ace_text_add(&c->lyrics, "\n");
        case_text(random, &c->lyrics);
    }
    c->request = (lm_request){.caption = case_string(&c->caption), .lyrics = case_string(&c->lyrics)};
    c->request.language = case_pick(random, "language", NULL);
    c->request.keyscale = case_pick(random, "keyscale", NULL);
    c->request.timesignature = case_pick(random, "timesignature", NULL);
    c->negative = case_pick(random, "negative", NULL);
    if (case_below(random, 2)) c->request.bpm = 1 + case_below(random, 800) / 2.0;
    if (case_below(random, 3)) c->request.duration = case_below(random, 6400) / 10.0;
    c->plan = case_below(random, 4) > 0 || c->request.bpm == 0;
    c->rewrite = case_below(random, 2) > 0;
    c->detect = case_below(random, 2) > 0;
    c->instrumental = case_below(random, 2) > 0;
    ace_text answer = {0};
    case_answer(random, &answer);
    for (size_t i = 0; i < answer.length; i++)
        if (answer.data[i]) ace_text_bytes(&c->answer, answer.data + i, 1);
    if (c->answer.length == 0) ace_text_add(&c->answer, "x");
    ace_text_free(&answer);
}

static void generate(const case_request *c, ace_text *out)
{
    lm_metadata given = {0}, planned = {0};
    assert_true(lm_metadata_for_generation(&c->request, &given, NULL));
    if (c->plan && !lm_metadata_is_complete(&given)) {
        take(out, lm_prompt_plan(c->request.caption, c->request.lyrics, NULL));
        case_show(&given, out);
        parse(&c->answer, &given, &planned);
    } else {
        assert_true(lm_metadata_copy(&planned, &given, NULL));
    }
    take(out, lm_prompt_codes(c->request.caption, c->request.lyrics, &planned, NULL));
    ace_text_format(out, "target %.17g\n", lm_target_duration(c->request.duration, &planned));
    take(out, lm_prompt_codes_unconditional(c->negative, NULL));
    lm_song song = {0};
    assert_true(lm_song_merge(LM_PROFILE_OFFICIAL, &c->request, &planned, c->rewrite, c->detect, &song, NULL));
    show_song(out, &song);
    lm_metadata_free(&given);
    lm_metadata_free(&planned);
}

/* Understanding, writing or formatting: the prompt, what is given, and the song that the answer makes. */
static void use(const case_request *c, char *prompt, const lm_metadata *given, const char *unless_lyrics, ace_text *out)
{
    lm_metadata written = {0};
    lm_song song = {0};
    take(out, prompt);
    case_show(given, out);
    parse(&c->answer, given, &written);
    char *lyrics = lm_parse_lyrics(LM_PROFILE_OFFICIAL, case_string(&c->answer), c->answer.length, NULL);
    assert_non_null(lyrics);
    const char *chosen = *lyrics ? lyrics : unless_lyrics;
    if (lm_song_assemble(&written, chosen, &song, NULL))
        show_song(out, &song);
    else
        ace_text_add(out, "no metadata\n");
    free(lyrics);
    lm_metadata_free(&written);
}

static void prompt_case(random_case *random, ace_text *out)
{
    case_request c = {0};
    lm_metadata nothing = {0}, inspiration = {0}, format = {0};
    draw(random, &c);
    generate(&c, out);
    use(&c, lm_prompt_understand(c.request.caption, NULL), &nothing, "", out);
    assert_true(lm_metadata_for_inspiration(&c.request, &inspiration, NULL));
    use(&c, lm_prompt_inspire(c.request.caption, c.instrumental, NULL), &inspiration,
        c.instrumental ? "[Instrumental]" : "", out);
    assert_true(lm_metadata_for_format(&c.request, &format, NULL));
    use(&c, lm_prompt_format(c.request.caption, c.request.lyrics, NULL), &format,
        lm_blank(c.request.lyrics) ? "[Instrumental]" : c.request.lyrics, out);
    lm_metadata_free(&inspiration);
    lm_metadata_free(&format);
    ace_text_free(&c.caption);
    ace_text_free(&c.lyrics);
    ace_text_free(&c.answer);
}

static void random_requests_are_told_as_officially(void **state)
{
    (void)state;
    case_check("prompt", CASE_PROMPT, prompt_case);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_requests_are_told_as_officially),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
