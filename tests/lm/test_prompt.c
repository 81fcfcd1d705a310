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
    if (lm_song_assemble(LM_PROFILE_OFFICIAL, &written, given, chosen, &song, NULL))
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

/* ---- tokens ------------------------------------------------------------------------------------------------- */

/* Checks that a prompt, which is freed, has the ids of `head`, `body` and `tail`. Each list ends with -1. */
static void assert_ids(const ace_tokenizer *tokenizer, char *prompt, const int32_t *head, const int32_t *body,
                       const int32_t *tail)
{
    const int32_t *const lists[] = {head, body, tail};
    ace_ids ids = {0};
    ace_error error = {0};
    size_t at = 0;
    assert_non_null(prompt);
    if (!lm_prompt_encode(tokenizer, prompt, 100, 4096, &ids, &error)) fail_msg("%s", error.message);
    for (int list = 0; list < 3; list++)
        for (const int32_t *id = lists[list]; *id >= 0; id++, at++) {
            assert_true(at < ids.count);
            if (ids.data[at] != *id) fail_msg("token %zu of %s is %d, not %d", at, prompt, (int)ids.data[at], (int)*id);
        }
    assert_int_equal(at, ids.count);
    ace_ids_free(&ids);
    free(prompt);
}

static void tokens_are_those_of_the_specification(void **state)
{
    (void)state;
    if (!ace_path_exists(QWEN3)) {
        print_message("skipped: no Qwen3 tokenizer\n");
        return;
    }
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_json(QWEN3, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    if (tokenizer_audio_first(tokenizer) < 0) assert_true(tokenizer_set_audio_codes(tokenizer, 151669, 65535, NULL));

    static const int32_t generate_head[] = {151644, 8948, 198,  2,    29051, 198,    31115, 7699,   41733, 11211, 3118,
                                            389,    279,  2661, 4682, 1447,  151645, 198,   151644, 872,   198,   -1};
    static const int32_t understand_head[] = {151644, 8948,   198,  2,      29051, 198, 16250, 2685,  279,
                                              2661,   17795,  4682, 323,    7512,  279, 7699,  52694, 27079,
                                              1447,   151645, 198,  151644, 872,   198, -1};
    static const int32_t inspire_head[] = {151644, 8948, 198,    2,   29051,  198,   38946, 279,  1196,
                                           594,    1946, 1119,   264, 803,    11682, 323,   3151, 17795,
                                           4008,   1447, 151645, 198, 151644, 872,   198,   -1};
    static const int32_t format_head[] = {151644, 8948, 198,    2,   29051,  198,   4061, 279,  1196,
                                          594,    1946, 1119,   264, 803,    11682, 323,  3151, 17795,
                                          4008,   1447, 151645, 198, 151644, 872,   198,  -1};
    static const int32_t tail[] = {151645, 198, 151644, 77091, 198, -1};
    static const char caption[] = "A calm piano piece with soft strings",
                      lyrics[] = "[Verse 1]\nHello again, my friend";
    static const int32_t piano[] = {2,  37600, 198, 32, 19300, 26278, 6573, 448, 8413, 9069, 271, 2, 15953, 2216, 198,
                                    58, 68043, 220, 16, 921,   9707,  1549, 11,  847,  4238, 198, -1};
    assert_ids(tokenizer, lm_prompt_plan(caption, lyrics, NULL), generate_head, piano, tail);

    lm_metadata plan = {0};
    lm_metadata_set_integer(&plan, LM_BPM, 96);
    lm_metadata_set_integer(&plan, LM_DURATION, 154);
    assert_true(
        lm_metadata_set_text(&plan, LM_CAPTION,
                             lm_slice_of("A calm piano piece with soft strings and a slow build that never quite "
                                         "resolves, closing on a single held note."),
                             NULL));
    assert_true(lm_metadata_set_text(&plan, LM_GENRES, lm_slice_of("left out"), NULL));
    assert_true(lm_metadata_set_text(&plan, LM_KEYSCALE, lm_slice_of("F# minor"), NULL));
    assert_true(lm_metadata_set_text(&plan, LM_LANGUAGE, lm_slice_of("en"), NULL));
    assert_true(lm_metadata_set_text(&plan, LM_TIMESIGNATURE, lm_slice_of("4"), NULL));
    static const int32_t planned[] = {
        151645, 198,  151644, 77091, 198,   151667, 198,  65,   5187, 25,     220,  24,   21,    198,
        23347,  25,   362,    19300, 26278, 6573,   448,  8413, 9069, 323,    264,  6301, 1936,  429,
        2581,   5008, 63297,  345,   220,   15316,  389,  264,  3175, 5644,   5185, 624,  17021, 25,
        220,    16,   20,     19,    198,   10563,  2246, 25,   434,  2,      8922, 198,  11528, 25,
        662,    198,  15136,  622,   1568,  25,     220,  19,   198,  151668, 271,  -1};
    assert_ids(tokenizer, lm_prompt_codes(caption, lyrics, &plan, NULL), generate_head, piano, planned);
    lm_metadata_free(&plan);

    static const int32_t empty_plan[] = {151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271, -1};
    static const int32_t nothing[] = {8996, 13872, 26149, -1}, bad[] = {10303, 4271, 11, 61136, -1};
    assert_ids(tokenizer, lm_prompt_codes_unconditional(NULL, NULL), generate_head, nothing, empty_plan);
    assert_ids(tokenizer, lm_prompt_codes_unconditional("low quality, distorted", NULL), generate_head, bad,
               empty_plan);

    static const int32_t codes[] = {170622, 165502, 151676, -1};
    assert_ids(tokenizer, lm_prompt_understand("<|audio_code_18953|><|audio_code_13833|><|audio_code_7|>", NULL),
               understand_head, codes, tail);
    static const int32_t idea[] = {64,    8413,  25250, 7956,  2948, 5492, 369, 264,
                                   11340, 11458, 271,   66368, 278,  25,   895, -1};
    assert_ids(tokenizer, lm_prompt_inspire("a soft Bengali love song for a quiet evening", false, NULL), inspire_head,
               idea, tail);
    static const int32_t latin[] = {2,     37600, 198,  41547, 2420, 11,    1217,  6743, 34694, 271,
                                    2,     15953, 2216, 198,   58,   68043, 220,   16,   921,   51,
                                    64653, 650,   308,  7680,  662,  1187,  96083, 8260, -1};
    assert_ids(tokenizer, lm_prompt_format("Latin pop, reggaeton", "[Verse 1]\nTengo un nudo en la garganta", NULL),
               format_head, latin, tail);

    /* a prompt is never cut */
    ace_text long_lyrics = {0};
    while (long_lyrics.length < 100000) ace_text_add(&long_lyrics, "la la la\n");
    char *prompt = lm_prompt_plan("", long_lyrics.data, NULL);
    ace_ids ids = {0};
    assert_false(lm_prompt_encode(tokenizer, prompt, 500, 4096, &ids, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    assert_non_null(strstr(error.message, "room for 3596"));
    assert_int_equal(ids.count, 0);
    assert_true(lm_prompt_encode(tokenizer, prompt, 500, 131072, &ids, NULL));
    ace_ids_free(&ids);
    free(prompt);
    ace_text_free(&long_lyrics);
    tokenizer_close(tokenizer);
}

/* ---- the plan ----------------------------------------------------------------------------------------------- */

static void assert_think(const lm_metadata *plan, const char *wanted)
{
    char *text = lm_prompt_think(plan, NULL);
    assert_string_equal(text, wanted);
    free(text);
}

static void plans_are_written_as_numbers_where_they_are_numbers(void **state)
{
    (void)state;
    static const struct {
        lm_field field;
        const char *text, *wanted;
    } table[] = {
        {LM_LANGUAGE, "no", "<think>\nlanguage: 'no'\n</think>"},
        {LM_TIMESIGNATURE, "4/4", "<think>\ntimesignature: 4\n</think>"},
        {LM_TIMESIGNATURE, "6/8", "<think>\ntimesignature: 6/8\n</think>"},
        {LM_BPM, "120", "<think>\nbpm: 120\n</think>"},
        {LM_BPM, "120.5", "<think>\nbpm: '120.5'\n</think>"},
        {LM_CAPTION, "007", "<think>\ncaption: 7\n</think>"},
        {LM_CAPTION, "000", "<think>\ncaption: 0\n</think>"},
        {LM_CAPTION, "true", "<think>\ncaption: 'true'\n</think>"},
        {LM_CAPTION, "\u0661\u0662", "<think>\ncaption: 12\n</think>"},
        {LM_CAPTION, "\u00b2", "<think>\ncaption: \u00b2\n</think>"}, /* the official program stops here */
        {LM_CAPTION, "", "<think>\ncaption: ''\n</think>"},
        {LM_GENRES, "rock", "<think>\n\n</think>"},
    };
    lm_metadata plan = {0};
    assert_think(&plan, "<think>\n\n</think>");
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_true(lm_metadata_set_text(&plan, table[i].field, lm_slice_of(table[i].text), NULL));
        assert_think(&plan, table[i].wanted);
        lm_metadata_free(&plan);
    }
    static const struct {
        double number;
        const char *wanted;
    } numbers[] = {
        {30, "30.0"},      {30.1, "30.1"},        {0.0001, "0.0001"},           {0.00001, "1.0e-05"},
        {1e16, "1.0e+16"}, {1.5e300, "1.5e+300"}, {1e15, "1000000000000000.0"}, {0.1 + 0.2, "0.30000000000000004"}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ace_text wanted = {0};
        ace_text_format(&wanted, "<think>\nduration: %s\n</think>", numbers[i].wanted);
        lm_metadata_set_number(&plan, LM_DURATION, numbers[i].number);
        assert_think(&plan, wanted.data);
        ace_text_free(&wanted);
    }
}

/* ---- what the default profile does otherwise ---------------------------------------------------------------- */

static void a_detected_language_reaches_the_song(void **state)
{
    (void)state;
    static const struct {
        lm_profile profile;
        const char *given;
        bool detect;
        const char *wanted;
    } table[] = {
        {LM_PROFILE_DEFAULT, "unknown", true, "fr"},
        {LM_PROFILE_DEFAULT, NULL, true, "fr"},
        {LM_PROFILE_DEFAULT, " ", true, "fr"},
        {LM_PROFILE_DEFAULT, "en", true, "en"},
        {LM_PROFILE_DEFAULT, "unknown", false, "unknown"},
        {LM_PROFILE_OFFICIAL, "unknown", true, "unknown"},
    };
    lm_metadata planned = {0};
    assert_true(lm_metadata_set_text(&planned, LM_LANGUAGE, lm_slice_of("fr"), NULL));
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        lm_song song = {0};
        lm_request request = {.language = table[i].given};
        assert_true(lm_song_merge(table[i].profile, &request, &planned, true, table[i].detect, &song, NULL));
        assert_string_equal(song.language, table[i].wanted);
        lm_song_free(&song);
    }
    lm_metadata_free(&planned);
}

/* The grammar leaves out the language line when formatting with a language that was given. */
static void a_given_language_survives_formatting(void **state)
{
    (void)state;
    lm_metadata written = {0}, given = {0};
    lm_metadata_set_integer(&written, LM_BPM, 90);
    lm_metadata_set_integer(&given, LM_BPM, 80);
    assert_true(lm_metadata_set_text(&given, LM_LANGUAGE, lm_slice_of("fr"), NULL));
    for (lm_profile profile = LM_PROFILE_DEFAULT; profile <= LM_PROFILE_OFFICIAL; profile++) {
        lm_song song = {0};
        assert_true(lm_song_assemble(profile, &written, &given, "la", &song, NULL));
        assert_string_equal(song.language, profile == LM_PROFILE_DEFAULT ? "fr" : "");
        assert_int_equal(song.bpm, 90);
        lm_song_free(&song);
    }
    lm_metadata_free(&written);
    lm_metadata_free(&given);
}

/* ---- bad input ---------------------------------------------------------------------------------------------- */

static void what_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const char bad[] = "ab\xed\xa0\x80"; /* a lone surrogate */
    lm_metadata plan = {0};
    assert_true(lm_metadata_set_text(&plan, LM_CAPTION, lm_slice_of(bad), NULL));
    ace_error errors[8] = {0};
    assert_null(lm_prompt_plan(bad, "", &errors[0]));
    assert_null(lm_prompt_plan("", bad, &errors[1]));
    assert_null(lm_prompt_codes("", "", &plan, &errors[2]));
    assert_null(lm_prompt_codes_unconditional(bad, &errors[3]));
    assert_null(lm_prompt_understand(bad, &errors[4]));
    assert_null(lm_prompt_inspire(bad, false, &errors[5]));
    assert_null(lm_prompt_format("", bad, &errors[6]));
    assert_null(lm_prompt_think(&plan, &errors[7]));
    for (int i = 0; i < 8; i++) {
        assert_int_equal(errors[i].status, ACE_ERROR_USAGE);
        assert_non_null(strstr(errors[i].message, "byte 2"));
    }
    lm_metadata_free(&plan);
}

static void control_characters_are_counted_out(void **state)
{
    (void)state;
    static const char *const table[][2] = {{"a\x07 b\x1b[0m\x7f", "a b[0m"},
                                           {"\ta\r\n", "\ta\r\n"},
                                           {"\x01", ""},
                                           {"", ""},
                                           {"\xc2\x80x\xc2\x9f\xc2\x85\xc2\xa0", "x\xc2\x85\xc2\xa0"}};
    static const size_t removed[] = {3, 0, 1, 0, 2};
    for (size_t i = 0; i < 5; i++) {
        size_t count;
        char *text = lm_without_controls(table[i][0], &count, NULL);
        assert_string_equal(text, table[i][1]);
        assert_int_equal(count, removed[i]);
        free(text);
    }
}

static void numbers_too_large_are_refused(void **state)
{
    (void)state;
    lm_metadata metadata = {0};
    ace_error error = {0};
    assert_false(
        lm_metadata_for_generation(&(lm_request){.keyscale = "C major", .duration = 1e300}, &metadata, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    assert_true(lm_metadata_is_empty(&metadata));
}

static void an_answer_without_metadata_is_an_error(void **state)
{
    (void)state;
    lm_metadata metadata = {0};
    lm_song song = {0};
    ace_error error = {0};
    assert_false(lm_song_assemble(LM_PROFILE_DEFAULT, &metadata, NULL, "la", &song, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const lm_request request = {.caption = "a: \tb",
                                       .lyrics = "la",
                                       .keyscale = "C major",
                                       .timesignature = "4/4",
                                       .language = "fr",
                                       .bpm = 90,
                                       .duration = 30};
    bool passed = false;
    for (long n = 1; !passed; n++) {
        lm_metadata given = {0}, plan = {0};
        lm_song song = {0};
        ace_error error = {0};
        ace_fault_arm(n);
        char *prompt = NULL;
        passed = lm_metadata_for_format(&request, &given, &error) && lm_metadata_copy(&plan, &given, &error) &&
                 lm_metadata_set_text(&plan, LM_CAPTION, lm_slice_of(request.caption), &error) &&
                 (prompt = lm_prompt_codes(request.caption, request.lyrics, &plan, &error)) &&
                 lm_song_merge(LM_PROFILE_DEFAULT, &request, &plan, true, true, &song, &error);
        ace_fault_arm(0);
        if (!passed) assert_int_equal(error.status, ACE_ERROR_MEMORY);
        if (prompt)
            assert_non_null(strstr(prompt, "caption: \"a: \\tb\"\nduration: 30\nkeyscale: C major\nlanguage: fr\n"));
        if (passed) assert_string_equal(song.caption, request.caption);
        free(prompt);
        lm_song_free(&song);
        lm_metadata_free(&given);
        lm_metadata_free(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_requests_are_told_as_officially),
        cmocka_unit_test(tokens_are_those_of_the_specification),
        cmocka_unit_test(plans_are_written_as_numbers_where_they_are_numbers),
        cmocka_unit_test(a_detected_language_reaches_the_song),
        cmocka_unit_test(a_given_language_survives_formatting),
        cmocka_unit_test(what_is_not_utf8_is_refused),
        cmocka_unit_test(control_characters_are_counted_out),
        cmocka_unit_test(numbers_too_large_are_refused),
        cmocka_unit_test(an_answer_without_metadata_is_an_error),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
