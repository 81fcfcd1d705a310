#include "song/job.h"

#include "audio/audio_level.h"
#include "base/error.h"
#include "base/memory.h"
#include "lm/lm_text.h"
#include "song/prompt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FRAME_RATE = 25, FRAME_SAMPLES = 1920, MIN_FRAMES = 128, CODE_RATE = 5 };

static void warn(const job_warnings *warnings, const char *sentence)
{
    if (warnings->warn) warnings->warn(warnings->user, sentence);
}

/* ---- sampling ------------------------------------------------------------------------------------------------ */

static bool parse_timesteps(song_job *job, const char *text, ace_error *error)
{
    size_t commas = 0, count = 0;
    for (const char *p = text; *p; p++) commas += *p == ',';
    job->timesteps = ace_calloc(commas + 1, sizeof *job->timesteps, "the timesteps", error);
    if (!job->timesteps) return false;
    for (const char *p = text;;) {
        char *end;
        job->timesteps[count++] = strtod(p, &end);
        end += strspn(end, " \t");
        if (end == p || (*end && *end != ','))
            return ace_fail(error, ACE_ERROR_USAGE,
                            "timesteps contain '%.16s': give numbers between commas, such as 1,0.75,0.5,0.25", p);
        if (!*end) break;
        p = end + 1;
    }
    job->sampler.timesteps = job->timesteps;
    job->sampler.timestep_count = count;
    return true;
}

/* The checkpoint's preset, then what the request says. The names were checked when they were set. */
static bool choose_sampling(song_job *job, const ace_request *r, const dit_config *config, const job_warnings *warnings,
                            ace_error *error)
{
    sampler_options *o = &job->sampler;
    *o = sampler_defaults(config->is_turbo);
    o->steps = (int)request_integer(r, FIELD_STEPS, o->steps);
    o->shift = request_number(r, FIELD_SHIFT, o->shift);
    o->guidance_scale = request_number(r, FIELD_GUIDANCE_SCALE, o->guidance_scale);
    guidance_from_name(request_text(r, FIELD_GUIDANCE, guidance_name(o->guidance)), &o->guidance);
    o->cfg_interval_start = request_number(r, FIELD_CFG_START, o->cfg_interval_start);
    o->cfg_interval_end = request_number(r, FIELD_CFG_END, o->cfg_interval_end);
    solver_from_name(request_text(r, FIELD_SOLVER, solver_name(o->solver)), &o->solver);
    o->stork_substeps = (int)request_integer(r, FIELD_STORK_SUBSTEPS, o->stork_substeps);
    o->velocity_norm_threshold = request_number(r, FIELD_VELOCITY_NORM, o->velocity_norm_threshold);
    o->velocity_ema_factor = request_number(r, FIELD_VELOCITY_EMA, o->velocity_ema_factor);
    o->dcw.enabled = request_bool(r, FIELD_DCW, o->dcw.enabled);
    dcw_mode_from_name(request_text(r, FIELD_DCW_MODE, dcw_mode_name(o->dcw.mode)), &o->dcw.mode);
    dcw_wavelet_from_name(request_text(r, FIELD_DCW_WAVELET, dcw_wavelet_name(o->dcw.wavelet)), &o->dcw.wavelet);
    o->dcw.scaler = request_number(r, FIELD_DCW_SCALER, o->dcw.scaler);
    o->dcw.high_scaler = request_number(r, FIELD_DCW_HIGH_SCALER, o->dcw.high_scaler);
    noise_kind_from_name(request_text(r, FIELD_NOISE, noise_kind_name(o->noise)), &o->noise);
    o->cover_strength = request_number(r, FIELD_COVER_STRENGTH, o->cover_strength);
    o->cover_noise_strength = request_number(r, FIELD_COVER_NOISE, o->cover_noise_strength);
    o->latent_shift = request_number(r, FIELD_LATENT_SHIFT, o->latent_shift);
    o->latent_rescale = request_number(r, FIELD_LATENT_RESCALE, o->latent_rescale);
    if (request_is_set(r, FIELD_TIMESTEPS) && !parse_timesteps(job, request_text(r, FIELD_TIMESTEPS, ""), error))
        return false;
    return sampler_validate(o, warnings->warn, warnings->user, error) && sampler_schedule(o, &job->schedule, error);
}

/* ---- length -------------------------------------------------------------------------------------------------- */

/* dit.md 7.2: the length is rounded to a tenth of a second (as Python rounds), then down to whole frames; codes fix
 * it. *seconds becomes what the text encoder is told. */
static int64_t choose_frames(const song_job *job, const ace_request *r, double *seconds, const job_warnings *warnings)
{
    char tenth[32];
    double asked = request_number(r, FIELD_DURATION, 0);
    if (job->code_count > 0) {
        double planned = (double)job->code_count / CODE_RATE;
        if (asked > 0 && fabs(asked - planned) >= 1.0 / CODE_RATE) {
            char sentence[160];
            snprintf(sentence, sizeof sentence, "the audio codes last %.1f s: the duration of %.1f s is not used",
                     planned, asked);
            warn(warnings, sentence);
        }
        *seconds = planned;
        int64_t frames = job->code_count * (FRAME_RATE / CODE_RATE);
        return frames < MIN_FRAMES ? MIN_FRAMES : frames;
    }
    snprintf(tenth, sizeof tenth, "%.1f", asked > 0 ? asked : 120);
    *seconds = strtod(tenth, NULL);
    return (int64_t)(*seconds * FRAME_RATE * FRAME_SAMPLES) / FRAME_SAMPLES;
}

/* ---- texts --------------------------------------------------------------------------------------------------- */

/* A synthetic checkpoint has no tokenizer: one token a byte, so that lengths are like those of a real text. */
static bool synthetic_tokens(job_tokens *tokens, const char *text, int64_t limit, int vocab, ace_error *error)
{
    int64_t n = (int64_t)strlen(text);
    tokens->count = n < limit ? n : limit;
    tokens->ids = ace_calloc((size_t)tokens->count, sizeof *tokens->ids, "tokens", error);
    for (int64_t i = 0; tokens->ids && i < tokens->count; i++) tokens->ids[i] = (unsigned char)text[i] * 7 % vocab;
    return tokens->ids != NULL;
}

static bool tokenize(job_tokens *tokens, char *text, int64_t limit, const ace_checkpoint *checkpoint,
                     const ace_tokenizer *tokenizer, const char *what, const job_warnings *warnings, ace_error *error)
{
    if (!text) return false;
    bool ok, cut = false;
    if (!tokenizer) {
        ok = synthetic_tokens(tokens, text, limit, checkpoint->text_encoder.vocab_size, error);
    } else {
        /* one token more than the limit tells whether something is cut off; the appended token stays the last */
        ace_ids ids = {0};
        ok = tokenizer_encode_prompt(tokenizer, text, strlen(text), (size_t)limit + 1, &ids, error);
        cut = (int64_t)ids.count > limit;
        if (cut) ids.data[limit - 1] = ids.data[limit];
        tokens->ids = ids.data;
        tokens->count = cut ? limit : (int64_t)ids.count;
    }
    for (int64_t i = 0; ok && i < tokens->count; i++)
        if (tokens->ids[i] < 0 || tokens->ids[i] >= checkpoint->text_encoder.vocab_size)
            ok =
                ace_fail(error, ACE_ERROR_MODEL,
                         "the tokenizer gives token %d but the text encoder knows only %d: they do not belong together",
                         tokens->ids[i], checkpoint->text_encoder.vocab_size);
    if (ok && cut) {
        char sentence[160];
        snprintf(sentence, sizeof sentence, "the %s are longer than the model's %lld tokens: the end is cut off", what,
                 (long long)limit);
        warn(warnings, sentence);
    }
    free(text);
    return ok;
}

/* The caption for the steps that no longer follow the codes has exactly as many tokens as the main one (dit.md 14.1).
 */
static bool fit_length(job_tokens *tokens, int64_t count, ace_error *error)
{
    int32_t *ids = ace_realloc(tokens->ids, (size_t)count, sizeof *ids, "tokens", error);
    if (!ids) return false;
    int32_t padding = ids[tokens->count - 1]; /* the appended <|endoftext|> */
    for (int64_t i = tokens->count; i < count; i++) ids[i] = padding;
    tokens->ids = ids;
    tokens->count = count;
    return true;
}

static bool write_texts(song_job *job, const ace_request *r, double seconds, const ace_checkpoint *checkpoint,
                        const ace_tokenizer *tokenizer, const job_warnings *warnings, ace_error *error)
{
    prompt_metas metas = {.bpm = (int)request_integer(r, FIELD_BPM, 0),
                          .timesignature = request_text(r, FIELD_TIMESIGNATURE, NULL),
                          .keyscale = request_text(r, FIELD_KEYSCALE, NULL),
                          .duration = seconds};
    const char *caption = request_text(r, FIELD_CAPTION, "");
    const char *lyrics =
        request_bool(r, FIELD_INSTRUMENTAL, false) ? "[Instrumental]" : request_text(r, FIELD_LYRICS, "");
    const char *instruction = job->code_count > 0 ? PROMPT_COVER : PROMPT_TEXT2MUSIC;
    const char *language = request_text(r, FIELD_LANGUAGE, "unknown");
    bool ok = tokenize(&job->caption, prompt_caption(instruction, caption, &metas, error), PROMPT_TEXT_TOKENS,
                       checkpoint, tokenizer, "caption and metadata", warnings, error) &&
              tokenize(&job->lyrics, prompt_lyrics(language, lyrics, error), PROMPT_LYRIC_TOKENS, checkpoint, tokenizer,
                       "lyrics", warnings, error);
    if (ok && job->sampler.cover_strength < 1)
        ok = tokenize(&job->plain_caption, prompt_caption(PROMPT_TEXT2MUSIC, caption, &metas, error),
                      PROMPT_TEXT_TOKENS, checkpoint, tokenizer, "caption and metadata", &(job_warnings){0}, error) &&
             fit_length(&job->plain_caption, job->caption.count, error);
    return ok;
}

/* ---- the request ------------------------------------------------------------------------------------------------ */

static bool draw_seed(ace_request *r, ace_error *error)
{
    uint32_t drawn;
    if (request_is_set(r, FIELD_SEED)) return true;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
        return ace_fail(error, ACE_ERROR_IO, "the system gives no random seed: pass one with --seed");
    request_put_integer(r, FIELD_SEED, drawn);
    return true;
}

/* The songs of a batch have the seeds seed, seed + 1, ... */
static bool seeds_fit(const ace_request *r, ace_error *error)
{
    int64_t first = request_integer(r, FIELD_SEED, 0), songs = request_integer(r, FIELD_BATCH_SIZE, 1);
    return first <= INT64_MAX - (songs - 1) ||
           ace_fail(error, ACE_ERROR_USAGE, "seed %lld leaves no room for a batch of %lld: give a smaller one",
                    (long long)first, (long long)songs);
}

static bool remove_controls(ace_request *r, request_field field, const job_warnings *warnings, ace_error *error)
{
    size_t removed;
    if (!request_is_set(r, field)) return true;
    char *clean = lm_without_controls(request_text(r, field, ""), &removed, error);
    bool ok = clean && (removed == 0 || request_put_text(r, field, clean, error));
    if (ok && removed > 0) {
        char sentence[160];
        snprintf(sentence, sizeof sentence, "%zu control character%s in the %s cannot be sung: left out", removed,
                 removed == 1 ? "" : "s", request_fields[field].doc.name);
        warn(warnings, sentence);
    }
    free(clean);
    return ok;
}

ace_request *song_request(const ace_request *request, const job_warnings *warnings, ace_error *error)
{
    ace_request *copy = request_copy(request, error);
    if (!copy) return NULL;
    if (remove_controls(copy, FIELD_CAPTION, warnings, error) && remove_controls(copy, FIELD_LYRICS, warnings, error) &&
        remove_controls(copy, FIELD_LM_NEGATIVE, warnings, error) && draw_seed(copy, error) && seeds_fit(copy, error))
        return copy;
    ace_request_free(copy);
    return NULL;
}

/* ---- all together -------------------------------------------------------------------------------------------- */

/* Every field gets the value that was really used: this is what the song's tags say. */
static bool record(song_job *job, double seconds, ace_error *error)
{
    ace_request *r = job->request;
    const sampler_options *o = &job->sampler;
    audio_level_options level = audio_level_defaults();
    request_put_number(r, FIELD_DURATION, seconds);
    request_put_integer(r, FIELD_SEED, (int64_t)job->seeds[0]);
    request_put_integer(r, FIELD_BATCH_SIZE, job->batch);
    if (o->timestep_count == 0) {
        request_put_integer(r, FIELD_STEPS, o->steps);
        request_put_number(r, FIELD_SHIFT, o->shift);
    }
    request_put_number(r, FIELD_GUIDANCE_SCALE, o->guidance_scale);
    request_put_bool(r, FIELD_DCW, o->dcw.enabled);
    request_put_number(r, FIELD_DCW_SCALER, o->dcw.scaler);
    request_put_number(r, FIELD_DCW_HIGH_SCALER, o->dcw.high_scaler);
    request_put_bool(r, FIELD_NORMALIZE, request_bool(r, FIELD_NORMALIZE, level.normalize));
    request_put_number(r, FIELD_NORMALIZE_DB, request_number(r, FIELD_NORMALIZE_DB, level.peak_db));
    return request_put_text(r, FIELD_SOLVER, solver_name(o->solver), error) &&
           request_put_text(r, FIELD_GUIDANCE, guidance_name(o->guidance), error) &&
           request_put_text(r, FIELD_DCW_MODE, dcw_mode_name(o->dcw.mode), error) &&
           request_put_text(r, FIELD_DCW_WAVELET, dcw_wavelet_name(o->dcw.wavelet), error) &&
           request_put_text(r, FIELD_NOISE, noise_kind_name(o->noise), error);
}

/* Those that were planned, or the request's own. */
static bool choose_codes(song_job *job, song_codes *planned, int planned_count, ace_error *error)
{
    job->list_count = planned_count;
    for (int i = 0; i < planned_count; i++) {
        job->lists[i] = planned[i];
        planned[i] = (song_codes){0};
    }
    song_codes own = {0};
    if (planned_count == 0 &&
        !prompt_parse_codes(request_text(job->request, FIELD_AUDIO_CODES, ""), &own.codes, &own.count, error))
        return false;
    if (own.count > 0)
        job->lists[job->list_count++] = own;
    else
        free(own.codes);
    for (int i = 0; i < job->list_count; i++)
        if (job->lists[i].count > job->code_count) job->code_count = job->lists[i].count;
    return true;
}

bool song_job_prepare(song_job *job, const ace_request *request, song_codes *planned, int planned_count,
                      const ace_checkpoint *checkpoint, const ace_tokenizer *tokenizer, const job_warnings *warnings,
                      ace_error *error)
{
    *job = (song_job){.batch = (int)request_integer(request, FIELD_BATCH_SIZE, 1)};
    double seconds = 0;
    job->request = request_copy(request, error);
    bool ok = job->request && choose_codes(job, planned, planned_count, error) &&
              choose_sampling(job, job->request, &checkpoint->dit, warnings, error);
    if (ok) {
        uint64_t first = (uint64_t)request_integer(request, FIELD_SEED, 0);
        for (int i = 0; i < job->batch; i++) job->seeds[i] = first + (uint64_t)i;
        job->frames = choose_frames(job, request, &seconds, warnings);
        ok = write_texts(job, request, seconds, checkpoint, tokenizer, warnings, error) && record(job, seconds, error);
    }
    if (!ok) song_job_free(job);
    return ok;
}

void song_job_free(song_job *job)
{
    ace_request_free(job->request);
    free(job->timesteps);
    free(job->caption.ids);
    free(job->lyrics.ids);
    free(job->plain_caption.ids);
    for (int i = 0; i < job->list_count; i++) free(job->lists[i].codes);
    *job = (song_job){0};
}
