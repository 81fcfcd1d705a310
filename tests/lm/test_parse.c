/* Reading the model's answers: random ones against the official parser by hash, the table of spec/lm.md 9.7, and what
 * the default profile adds. */
#include "random_case.h"

#include "base/clock.h"
#include "base/memory.h"
#include "lm/lm_prompt.h"
#include "text/unicode.h"

/* ---- against the official parser ---------------------------------------------------------------------------- */

static void parse_case(random_case *random, ace_text *out)
{
    ace_text answer = {0};
    lm_metadata metadata = {0};
    ace_error error = {0};
    int32_t *codes;
    size_t count, clamped;
    case_answer(random, &answer);
    const char *text = case_string(&answer);
    if (!lm_parse_metadata(LM_PROFILE_OFFICIAL, text, answer.length, NULL, &metadata, &error))
        fail_msg("%s", error.message);
    char *lyrics = lm_parse_lyrics(LM_PROFILE_OFFICIAL, text, answer.length, &error);
    assert_non_null(lyrics);
    assert_true(lm_parse_codes(text, answer.length, &codes, &count, &clamped, &error));
    case_show(&metadata, out);
    ace_text_add(out, "codes=");
    for (size_t i = 0; i < count; i++) ace_text_format(out, "%s%d", i ? "," : "", (int)codes[i]);
    ace_text_format(out, "\nlyrics=%s\n", lyrics);
    free(codes);
    free(lyrics);
    lm_metadata_free(&metadata);
    ace_text_free(&answer);
}

static void random_answers_are_read_as_officially(void **state)
{
    (void)state;
    case_check("parse", CASE_PARSE, parse_case);
}

/* ---- metadata ----------------------------------------------------------------------------------------------- */

static void assert_metadata(lm_profile profile, const char *text, const char *wanted)
{
    lm_metadata metadata = {0};
    ace_text shown = {0};
    ace_error error = {0};
    if (!lm_parse_metadata(profile, text, strlen(text), NULL, &metadata, &error)) fail_msg("%s", error.message);
    case_show(&metadata, &shown);
    assert_string_equal(case_string(&shown), wanted);
    ace_text_free(&shown);
    lm_metadata_free(&metadata);
}

static void known_answers(void **state)
{
    (void)state;
    static const char whole[] = "<think>\nbpm: 73\ncaption: A calm piano melody\nduration: 273\ngenres: Chinese folk\n"
                                "keyscale: G major\nlanguage: en\ntimesignature: 4\n</think>\n\n"
                                "<|audio_code_56535|><|audio_code_62918|><|im_end|>";
    for (lm_profile profile = LM_PROFILE_DEFAULT; profile <= LM_PROFILE_OFFICIAL; profile++) {
        assert_metadata(profile, whole,
                        "bpm=i:73\ncaption=s:A calm piano melody\nduration=i:273\ngenres=s:Chinese folk\n"
                        "keyscale=s:G major\nlanguage=s:en\ntimesignature=s:4\n");
        assert_metadata(profile,
                        "bpm: 90\ncaption: x\n  <b>skip</b>\n  y: z\nDuration: 20s\nnote without colon\n  tail\n",
                        "bpm=i:90\ncaption=s:x y: z\nduration=s:20s\n  tail\n");
        assert_metadata(profile, "<think>\nbpm:\n  100\nKEYSCALE : C major\n</think>",
                        "bpm=i:100\nkeyscale=s:C major\n");
        assert_metadata(profile, "<think>\nbpm: +1_0\nduration: 12.5\n</think>", "bpm=i:10\nduration=s:12.5\n");
        assert_metadata(profile, "<reasoning>\nbpm: 80\n</reasoning>", "bpm=i:80\n");
        assert_metadata(profile, "<think></think>bpm: 3\n<|audio_code_1|>bpm: 9", "");
        assert_metadata(profile, "", "");
        /* phase 1 ends without </think> */
        assert_metadata(profile, "<think>\nbpm: 96\nlanguage: en\ntimesignature: 4\n<|im_end|>",
                        "bpm=i:96\nlanguage=s:en\ntimesignature=s:4\n");
    }
    assert_metadata(LM_PROFILE_OFFICIAL, "<think>\ncaption: 'It''s slow: very\n  slow.'\nduration: 20\n</think>",
                    "caption=s:'It''s slow: very slow.'\nduration=i:20\n");
}

static void default_removes_quotes(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"caption: 'It''s slow: very\n  slow.'\nduration: 20\n", "caption=s:It's slow: very slow.\nduration=i:20\n"},
        {"caption: \"tab\\there \\\"so\\\" \\U0001F3B5\"", "caption=s:tab\there \"so\" \U0001f3b5\n"},
        {"caption: \"one\\\n  two\"", "caption=s:onetwo\n"},
        {"caption: \"one\\\n  \\ two\"", "caption=s:one two\n"},
        {"caption: \"a\\\\\n  b\"", "caption=s:a\\ b\n"},
        {"caption: ''", "caption=s:\n"},
        {"caption: ' lead'", "caption=s: lead\n"},
        {"caption: \"\\N\\L\\P\\_\\/\\x41\\u4e2d\"", "caption=s:\xc2\x85\u2028\u2029\u00a0/A中\n"},
        {"language: 'no'", "language=s:no\n"},
        {"bpm: '120'", "bpm=i:120\n"},
        {"duration: \"30.5\"", "duration=s:30.5\n"},
        /* not well-formed: kept as they are */
        {"caption: 'it's'", "caption=s:'it's'\n"},
        {"caption: 'a", "caption=s:'a\n"},
        {"caption: '", "caption=s:'\n"},
        {"caption: 'a'''", "caption=s:a'\n"},
        {"caption: 'a''", "caption=s:'a''\n"},
        {"caption: 'a' b", "caption=s:'a' b\n"},
        {"caption: \"a\" b\"", "caption=s:\"a\" b\"\n"},
        {"caption: \"a\\\"", "caption=s:\"a\\\"\n"},
        {"caption: \"\\q\"", "caption=s:\"\\q\"\n"},
        {"caption: \"\\x4\"", "caption=s:\"\\x4\"\n"},
        {"caption: \"\\ud800\"", "caption=s:\"\\ud800\"\n"},
        {"caption: \"\\U00110000\"", "caption=s:\"\\U00110000\"\n"},
        {"caption: \"\\x00\"", "caption=s:\"\\x00\"\n"},
        {"caption: \"\\0\"", "caption=s:\ufffd\n"},
        {"caption: 'a\"", "caption=s:'a\"\n"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_metadata(LM_PROFILE_DEFAULT, table[i][0], table[i][1]);
}

static void default_drops_values_that_are_none(void **state)
{
    (void)state;
    static const char text[] = "keyscale: H major\nlanguage: xx\ntimesignature: 6/8\nbpm: 90";
    assert_metadata(LM_PROFILE_DEFAULT, text, "bpm=i:90\n");
    assert_metadata(LM_PROFILE_OFFICIAL, text, "bpm=i:90\nkeyscale=s:H major\nlanguage=s:xx\ntimesignature=s:6/8\n");
    assert_metadata(LM_PROFILE_DEFAULT, "keyscale: C major\nkeyscale: none", ""); /* the last one counts */
    assert_metadata(LM_PROFILE_DEFAULT, "language: e<|im_end|>n\nkeyscale: C# minor<|endoftext|>",
                    "keyscale=s:C# minor\nlanguage=s:en\n");

    lm_metadata given = {0}, metadata = {0};
    ace_text shown = {0};
    assert_true(lm_metadata_set_text(&given, LM_TIMESIGNATURE, lm_slice_of("6/8"), NULL));
    assert_true(lm_parse_metadata(LM_PROFILE_DEFAULT, text, strlen(text), &given, &metadata, NULL));
    case_show(&metadata, &shown);
    assert_string_equal(shown.data, "bpm=i:90\ntimesignature=s:6/8\n"); /* the user's own value stays */
    ace_text_free(&shown);
    lm_metadata_free(&given);
    lm_metadata_free(&metadata);
}

static void value_sets(void **state)
{
    (void)state;
    static const char *const notes = "ABCDEFG";
    static const char *const accidentals[] = {"", "#", "b", "\u266f", "\u266d"};
    for (const char *note = notes; *note; note++)
        for (size_t a = 0; a < 5; a++)
            for (int minor = 0; minor < 2; minor++) {
                char text[32];
                snprintf(text, sizeof text, "%c%s %s", *note, accidentals[a], minor ? "minor" : "major");
                assert_true(lm_is_keyscale(lm_slice_of(text)));
            }
    static const char *const none[] = {"",        "C",         "C ",       "Cmajor",  "H major",
                                       "c major", "C## major", "C majors", "C Major", "C  major"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) assert_false(lm_is_keyscale(lm_slice_of(none[i])));
    for (size_t i = 0; i < LM_LANGUAGE_COUNT; i++) {
        assert_true(lm_is_language(lm_slice_of(lm_language_at(i))));
        assert_true(i + 2 > LM_LANGUAGE_COUNT - 1 || strcmp(lm_language_at(i), lm_language_at(i + 1)) < 0);
    }
    assert_false(lm_is_language(lm_slice_of("")) || lm_is_language(lm_slice_of("EN")) ||
                 lm_is_language(lm_slice_of("xx")));
    assert_true(lm_is_timesignature(lm_slice_of("2")) && lm_is_timesignature(lm_slice_of("6")));
    assert_false(lm_is_timesignature(lm_slice_of("5")) || lm_is_timesignature(lm_slice_of("4/4")));
}

/* True for a caption that a plan carries there and back. Not: numbers, which lose their zeros; "<", because the parser
 * drops lines that start with it; between single quotes line breaks, because it drops blank lines; and without quotes
 * other white space than blanks, because it trims lines more than YAML does. */
static bool survives(const ace_text *text, char quote)
{
    lm_slice all = {case_string(text), text->length};
    if (memchr(all.data, '<', all.length) || (all.length > 0 && lm_digits_end(all, 0) == all.length)) return false;
    for (size_t at = 0; at < all.length && quote != '"';) {
        uint32_t c = unicode_next(all.data, &at);
        bool line_break = c == '\n' || c == 0x85 || c == 0x2028 || c == 0x2029;
        if (quote == '\'' ? line_break : c != ' ' && lm_is_space(c)) return false;
    }
    return true;
}

/* What phase 2 is told of a caption is what the parser would read, however it had to be written. */
static void default_reads_what_we_write(void **state)
{
    (void)state;
    random_case random = {.state = 77, .fragments = case_json("text-fragments.json")};
    int checked[3] = {0};
    for (int i = 0; i < 20000; i++) {
        static const char before[] = "<think>\ncaption: ";
        ace_text text = {0};
        lm_metadata plan = {0}, back = {0};
        case_text(&random, &text);
        assert_true(lm_metadata_set_text(&plan, LM_CAPTION, lm_slice_of(case_string(&text)), NULL));
        char *think = lm_prompt_think(&plan, NULL);
        assert_non_null(think);
        assert_memory_equal(think, before, sizeof before - 2); /* the blank is trimmed with a blank caption */
        char quote = think[sizeof before - 1];
        if (survives(&text, quote)) {
            assert_true(lm_parse_metadata(LM_PROFILE_DEFAULT, think, strlen(think), NULL, &back, NULL));
            if (back.fields[LM_CAPTION].kind != LM_TEXT ||
                strcmp(back.fields[LM_CAPTION].text, case_string(&text)) != 0)
                fail_msg("'%s' written as\n%s", case_string(&text), think);
            checked[quote == '"' ? 0 : quote == '\'' ? 1 : 2]++;
        }
        free(think);
        lm_metadata_free(&plan);
        lm_metadata_free(&back);
        ace_text_free(&text);
    }
    for (int style = 0; style < 3; style++) assert_true(checked[style] > 2000);
    json_decref(random.fragments);
}

/* ---- lyrics ------------------------------------------------------------------------------------------------- */

static void assert_lyrics(const char *text, const char *official, const char *sensible)
{
    char *strict = lm_parse_lyrics(LM_PROFILE_OFFICIAL, text, strlen(text), NULL);
    char *lenient = lm_parse_lyrics(LM_PROFILE_DEFAULT, text, strlen(text), NULL);
    assert_string_equal(strict, official);
    assert_string_equal(lenient, sensible);
    free(strict);
    free(lenient);
}

static void known_lyrics(void **state)
{
    (void)state;
    static const char verse[] = "[Verse]\nla";
    assert_lyrics("</think>\n\n# Lyric\n[Verse]\nla\n<|im_end|>", verse, verse);
    assert_lyrics("x</think>#lyric\n[Verse]\nla <|im_end|> ", verse, verse);
    assert_lyrics("</think># Lyrics\n[Verse]\nla", "# Lyrics\n[Verse]\nla", verse);
    assert_lyrics("</think># Languages\nfr\n\n# Lyric\n[Verse]\nla", "# Languages\nfr\n\n# Lyric\n[Verse]\nla", verse);
    assert_lyrics("</think># Languages\nfr\n# Lyrics\n[Verse]\nla", "# Languages\nfr\n# Lyrics\n[Verse]\nla", verse);
    assert_lyrics("</think># Languages\nfr", "# Languages\nfr", "");
    assert_lyrics("</think># Lyric\n", "# Lyric", "");
    assert_lyrics("</think># Lyrical\nla", "# Lyrical\nla", "# Lyrical\nla");
    assert_lyrics("</think>[Verse]<|im_end|>\nla", "[Verse]<|im_end|>\nla", verse);
    assert_lyrics("# Lyric\nla", "", "");
    assert_lyrics("", "", "");
}

/* ---- codes -------------------------------------------------------------------------------------------------- */

static void codes_there_and_back(void **state)
{
    (void)state;
    static const char text[] =
        "<|audio_code_1|><|audio_code_70000|><|audio_code_|><|audio_code_002|><|audio_code_<|audio_code_5|>";
    int32_t *codes, *again;
    size_t count, clamped;
    assert_true(lm_parse_codes(text, strlen(text), &codes, &count, &clamped, NULL));
    assert_int_equal(count, 4);
    assert_int_equal(clamped, 1);
    assert_int_equal(codes[1], 63999);
    assert_int_equal(codes[2], 2);
    ace_text out = {0};
    lm_write_codes(&out, codes, count);
    assert_string_equal(out.data, "<|audio_code_1|><|audio_code_63999|><|audio_code_2|><|audio_code_5|>");
    assert_true(lm_parse_codes(out.data, out.length, &again, &count, &clamped, NULL));
    assert_int_equal(count, 4);
    assert_memory_equal(codes, again, 4 * sizeof *codes);
    free(codes);
    free(again);
    ace_text_free(&out);
    assert_true(lm_parse_codes("no codes", 8, &codes, &count, &clamped, NULL));
    assert_non_null(codes);
    assert_int_equal(count, 0);
    free(codes);
}

/* ---- bad input ---------------------------------------------------------------------------------------------- */

static void what_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"bpm: \xed\xa0\x80", "bpm: \xff",
                                      "bpm: \xe4\xb8"}; /* a lone surrogate; no lead; cut */
    for (size_t i = 0; i < 3; i++) {
        lm_metadata metadata = {0};
        int32_t *codes;
        size_t count, clamped;
        ace_error errors[3] = {0};
        assert_false(lm_parse_metadata(LM_PROFILE_DEFAULT, bad[i], strlen(bad[i]), NULL, &metadata, &errors[0]));
        assert_null(lm_parse_lyrics(LM_PROFILE_DEFAULT, bad[i], strlen(bad[i]), &errors[1]));
        assert_false(lm_parse_codes(bad[i], strlen(bad[i]), &codes, &count, &clamped, &errors[2]));
        for (int e = 0; e < 3; e++) {
            assert_int_equal(errors[e].status, ACE_ERROR_USAGE);
            assert_non_null(strstr(errors[e].message, "byte 5"));
        }
    }
}

/* Text made to be slow takes no longer than its length. */
static void time_is_linear(void **state)
{
    (void)state;
    static const char *const pieces[] = {"<think>", "<|im_", "\n  ", "\\", "'", "<|audio_code_", "a:\n", "\"\\\n "};
    double start = ace_clock();
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        ace_text text = {0};
        ace_text_add(&text, "caption: \"");
        while (text.length < 1 << 20) ace_text_add(&text, pieces[i]);
        ace_text_add(&text, "\"");
        lm_metadata metadata = {0};
        int32_t *codes;
        size_t count, clamped;
        assert_true(lm_parse_metadata(LM_PROFILE_DEFAULT, text.data, text.length, NULL, &metadata, NULL));
        assert_true(lm_parse_codes(text.data, text.length, &codes, &count, &clamped, NULL));
        char *lyrics = lm_parse_lyrics(LM_PROFILE_DEFAULT, text.data, text.length, NULL);
        assert_non_null(lyrics);
        free(lyrics);
        free(codes);
        lm_metadata_free(&metadata);
        ace_text_free(&text);
    }
    assert_true(ace_clock() - start < 30);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char text[] = "<think>caption: \"a\\\n b\"\nlanguage: en\nkeyscale: 'C major'</think># Lyric\nla";
    bool passed = false;
    for (long n = 1; !passed; n++) {
        ace_error error = {0};
        lm_metadata metadata = {0};
        int32_t *codes = NULL;
        size_t count, clamped;
        ace_fault_arm(n);
        bool ok = lm_parse_metadata(LM_PROFILE_DEFAULT, text, strlen(text), NULL, &metadata, &error);
        char *lyrics = ok ? lm_parse_lyrics(LM_PROFILE_DEFAULT, text, strlen(text), &error) : NULL;
        passed = lyrics && lm_parse_codes(text, strlen(text), &codes, &count, &clamped, &error);
        ace_fault_arm(0);
        if (!passed) assert_int_equal(error.status, ACE_ERROR_MEMORY);
        if (ok) assert_string_equal(metadata.fields[LM_CAPTION].text, "ab");
        if (lyrics) assert_string_equal(lyrics, "la");
        free(codes);
        free(lyrics);
        lm_metadata_free(&metadata);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_answers_are_read_as_officially),
        cmocka_unit_test(known_answers),
        cmocka_unit_test(default_removes_quotes),
        cmocka_unit_test(default_drops_values_that_are_none),
        cmocka_unit_test(value_sets),
        cmocka_unit_test(default_reads_what_we_write),
        cmocka_unit_test(known_lyrics),
        cmocka_unit_test(codes_there_and_back),
        cmocka_unit_test(what_is_not_utf8_is_refused),
        cmocka_unit_test(time_is_linear),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
