/* Words from the planner: a song out of an idea, a draft written out, a recording understood (lm.md 3.9 to 3.11). */
#include "base/error.h"
#include "base/memory.h"
#include "lm/lm_parse.h"
#include "lm/lm_prompt.h"
#include "song/arrange.h"
#include "song/call.h"
#include "song/listening.h"
#include "song/planning.h"
#include "song/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Most tokens of an answer (lm.md 4.9), and of a recording that is understood. */
enum { ANSWER_TOKENS = 3500, LONGEST_RECORDING = 600 /* seconds */ };

/* What is asked and what may be answered. */
typedef struct question {
    char *prompt; /* owned */
    lm_metadata given;
    bool skip_language;
    double temperature; /* when the request has none */
} question;

static void question_free(question *q)
{
    free(q->prompt);
    lm_metadata_free(&q->given);
}

/* Finds how the planner works within the limits, and unloads what it must. */
static bool make_room(ace_engine *engine, const lm_session_limits *limits, planner_setup *setup, ace_error *error)
{
    planner_fit fit;
    if (!arrange_words(engine, limits, &fit, error)) return false;
    if (fit.refusal.status != ACE_OK) return ace_fail(error, fit.refusal.status, "%s", fit.refusal.message);
    if (fit.alone) pipeline_unload(&engine->pipeline);
    *setup = fit.setup;
    return true;
}

/* Lets the planner answer; `asked` has a seed. Caller frees. */
static char *ask(call *c, planner *p, const question *q, const ace_request *asked, ace_error *error)
{
    ace_ids ids = {0};
    planner_task task = {.profile = planning_profile(asked),
                         .rules = {.phase = LM_PHASE_UNDERSTAND, .skip_language = q->skip_language, .given = &q->given},
                         .prompt = &ids,
                         .sampling = planning_sampling(asked, false),
                         .max_tokens = ANSWER_TOKENS};
    if (!request_is_set(asked, FIELD_LM_TEMPERATURE)) task.sampling.temperature = (float)q->temperature;
    char *answer = NULL;
    if (planner_encode(p, q->prompt, ANSWER_TOKENS, &ids, error)) {
        int64_t tokens = (int64_t)ids.count + ANSWER_TOKENS;
        lm_session_limits limits = {.items = 1, .rows = tokens, .positions = tokens};
        planner_watch watch = call_planner_watch(c);
        planner_setup setup;
        if (make_room(c->engine, &limits, &setup, error) && planner_begin(p, &setup, &watch, error)) {
            answer = planner_write_text(p, &task, (uint64_t)request_integer(asked, FIELD_SEED, 0), error);
            planner_end(p, NULL);
        }
    }
    ace_ids_free(&ids);
    return answer;
}

/* The song in an answer, whose lyrics are `fallback` when it has none. */
static bool read_answer(const question *q, const char *answer, lm_profile profile, const char *fallback, lm_song *song,
                        ace_error *error)
{
    lm_metadata written = {0};
    char *lyrics = lm_parse_lyrics(profile, answer, strlen(answer), error);
    bool ok = lyrics && lm_parse_metadata(profile, answer, strlen(answer), &q->given, &written, error) &&
              lm_song_assemble(profile, &written, &q->given, *lyrics ? lyrics : fallback, song, error);
    free(lyrics);
    lm_metadata_free(&written);
    return ok;
}

/* A new request with the planner's song in it and the seed that was used. */
static ace_request *request_of_answer(call *c, planner *p, const question *q, const ace_request *asked,
                                      const char *fallback, ace_error *error)
{
    lm_song song = {0};
    char *answer = ask(c, p, q, asked, error);
    ace_request *r = answer ? ace_request_new(error) : NULL;
    bool ok = r && read_answer(q, answer, planning_profile(asked), fallback, &song, error);
    if (ok && song.duration > planner_max_duration(p)) song.duration = planner_max_duration(p);
    ok = ok && planning_put_song(r, &song, &c->warnings, error);
    lm_song_free(&song);
    free(answer);
    if (!ok) {
        ace_request_free(r);
        return NULL;
    }
    request_put_integer(r, FIELD_SEED, request_integer(asked, FIELD_SEED, 0));
    return r;
}

/* ---- from an idea ---------------------------------------------------------------------------------------------- */

ace_request *ace_write(ace_engine *engine, const ace_request *idea, const ace_callbacks *callbacks, ace_error *error)
{
    call c;
    call_begin(&c, engine, callbacks);
    question q = {.temperature = (double)lm_sampling_default().temperature};
    ace_request *asked = song_request(idea, &c.warnings, error), *written = NULL;
    planner *p = asked ? engine_planner(engine, error) : NULL;
    if (p) {
        bool instrumental = request_bool(asked, FIELD_INSTRUMENTAL, false);
        lm_request given = {.language = request_text(asked, FIELD_LANGUAGE, "")};
        q.prompt = lm_prompt_inspire(request_text(asked, FIELD_CAPTION, ""), instrumental, error);
        if (q.prompt && lm_metadata_for_inspiration(&given, &q.given, error))
            written = request_of_answer(&c, p, &q, asked, instrumental ? "[Instrumental]" : "", error);
        if (written) request_put_bool(written, FIELD_INSTRUMENTAL, instrumental);
    }
    question_free(&q);
    ace_request_free(asked);
    call_end(&c);
    return written;
}

/* ---- from a draft ---------------------------------------------------------------------------------------------- */

ace_request *ace_format(ace_engine *engine, const ace_request *draft, const ace_callbacks *callbacks, ace_error *error)
{
    call c;
    call_begin(&c, engine, callbacks);
    question q = {.temperature = (double)lm_sampling_default().temperature};
    ace_request *asked = song_request(draft, &c.warnings, error), *written = NULL;
    planner *p = asked ? engine_planner(engine, error) : NULL;
    if (p) {
        lm_request given = planning_request(asked);
        if (strcmp(given.language, "unknown") == 0) given.language = "";
        if (lm_blank(given.lyrics)) given.lyrics = "[Instrumental]"; /* as the prompt says */
        q.skip_language = *given.language != '\0';
        q.prompt = lm_prompt_format(given.caption, given.lyrics, error);
        if (q.prompt && lm_metadata_for_format(&given, &q.given, error))
            written = request_of_answer(&c, p, &q, asked, given.lyrics, error);
    }
    question_free(&q);
    ace_request_free(asked);
    call_end(&c);
    return written;
}

/* ---- from a recording ------------------------------------------------------------------------------------------ */

static void on_listening(void *user, int64_t done, int64_t total)
{
    call_report(user, ACE_STAGE_LISTEN, "frames", done, total, 0, -1);
}

/* The memory of listening and its scratch, given back whatever happens. */
static bool listen_to(call *c, listening *ears, audio_source *source, int64_t frames, const listening_result *result,
                      ace_error *error)
{
    ace_device *dev = c->engine->dev;
    listening_needs needs;
    listening_watch watch = {.user = c, .progress = on_listening};
    bool ok = listening_plan(ears, frames, true, &needs, error) &&
              ace_scratch_reserve(dev, needs.scratch, needs.host, error) &&
              listening_run(ears, source, result, &watch, NULL, error);
    ace_scratch_reserve(dev, 0, 0, NULL);
    return ok;
}

static void warn_if_cut(const call *c, const audio_source *source)
{
    if (!audio_source_describe(source)->truncated || !c->warnings.warn) return;
    char sentence[160];
    snprintf(sentence, sizeof sentence, "the recording is longer than %d s: what comes after that is not listened to",
             LONGEST_RECORDING);
    c->warnings.warn(c->warnings.user, sentence);
}

/* The codes of a recording. Weights of the ears are not kept: they are needed once. */
static bool hear(call *c, const char *path, song_codes *list, ace_error *error)
{
    ace_engine *engine = c->engine;
    listening ears;
    audio_source *source = audio_source_open(path, LONGEST_RECORDING, &engine->stop, error);
    if (!source) return false;
    int64_t frames = audio_source_describe(source)->frames;
    listening_init(&ears, engine->dev, engine->checkpoint, 0);
    call_report(c, ACE_STAGE_LOAD, "parts", 0, 0, 0, -1);
    list->count = listening_codes(engine->checkpoint, frames);
    list->codes = ace_calloc((size_t)list->count, sizeof *list->codes, "audio codes", error);
    bool ok = list->codes && listen_to(c, &ears, source, frames, &(listening_result){.codes = list->codes}, error);
    if (ok) warn_if_cut(c, source);
    listening_unload(&ears);
    audio_source_close(source);
    return ok;
}

static bool find_codes(call *c, const char *path, const ace_request *asked, song_codes *list, ace_error *error)
{
    if (path) return hear(c, path, list, error);
    return prompt_parse_codes(request_text(asked, FIELD_AUDIO_CODES, ""), &list->codes, &list->count, error) &&
           (list->count > 0 ||
            ace_fail(error, ACE_ERROR_USAGE, "there is nothing to understand: give a recording or audio codes"));
}

ace_request *ace_understand(ace_engine *engine, const char *path, const ace_request *request,
                            const ace_callbacks *callbacks, ace_error *error)
{
    call c;
    call_begin(&c, engine, callbacks);
    song_codes list = {0};
    question q = {.temperature = 0.3}; /* as analyses are made (lm.md 3.3) */
    ace_request *asked = song_request(request, &c.warnings, error), *written = NULL;
    planner *p = asked ? engine_planner(engine, error) : NULL;
    if (p && find_codes(&c, path, asked, &list, error)) {
        ace_text codes = {0};
        lm_write_codes(&codes, list.codes, (size_t)list.count);
        char *text = ace_text_take(&codes, error);
        q.prompt = text ? lm_prompt_understand(text, error) : NULL;
        if (q.prompt) written = request_of_answer(&c, p, &q, asked, "", error);
        if (written && !planning_put_codes(written, &list, error)) {
            ace_request_free(written);
            written = NULL;
        }
        if (written) planning_done(written);
        free(text);
    }
    free(list.codes);
    question_free(&q);
    ace_request_free(asked);
    call_end(&c);
    return written;
}
