/* made_song.h - a song made on an engine, kept with what its making took. */
#ifndef TESTS_SONG_MADE_SONG_H
#define TESTS_SONG_MADE_SONG_H

#include "song_fixture.h"

typedef struct made {
    float *samples;
    int64_t count; /* of floats */
    size_t planned, measured;
    ace_stage_cost stages[ACE_STAGE_COUNT];
} made;

static inline bool keep(void *user, const ace_audio *audio, ace_error *error)
{
    made *m = user;
    (void)error;
    if (!m->samples) m->samples = calloc((size_t)(16 * audio->total), sizeof *m->samples); /* up to eight songs */
    memcpy(m->samples + 2 * (audio->item * audio->total + audio->first), audio->samples,
           (size_t)(2 * audio->count) * sizeof *m->samples);
    m->count += 2 * audio->count;
    return true;
}

static inline bool make(ace_engine *engine, const ace_request *request, made *m, ace_error *error)
{
    ace_result result;
    ace_callbacks callbacks = {.user = m, .audio = keep};
    *m = (made){0};
    bool ok = ace_generate(engine, request, &callbacks, &result, error);
    m->planned = result.planned_peak;
    m->measured = result.measured_peak;
    memcpy(m->stages, result.stages, sizeof m->stages);
    ace_result_free(&result);
    return ok;
}

#endif
