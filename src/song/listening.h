/* listening.h - the ears: a recording becomes latents, 25 a second, and audio codes, 5 a second.
 *
 *   audio file -> 48 kHz stereo -> VAE encoder -> latents -> audio tokenizer -> codes
 *
 * (features.md 9; vae-audio.md 5, 6, 15; dit.md 4.1). As in the official program's "convert audio to codes", with one
 * difference: latents are the posterior's mean, not an unseeded sample, so a recording always gives the same codes.
 * Samples behind the last whole latent frame are heard only as its context, frames missing in the last code are the
 * silence latent's first. The encoder streams: working memory depends on the window, except for the latents.
 *
 * The same code on the meter is the plan. Usual order:
 *
 *   audio_source_open();  listening_plan(l, info->frames, ...);  ace_scratch_reserve(dev, needs.scratch, needs.host,
 * ...); listening_run();  audio_source_close(); */
#ifndef ACE_SONG_LISTENING_H
#define ACE_SONG_LISTENING_H

#include "audio/audio_source.h"
#include "device/device.h"
#include "model/audio_tokenizer.h"
#include "model/vae.h"

typedef struct listening {
    ace_device *dev;
    const ace_checkpoint *checkpoint;
    int64_t window; /* latent frames encoded at once; 0: vae_encode_window(). Does not change a byte of the result. */

    /* what is loaded; kept from one recording to the next */
    bool has_tokenizer;
    audio_tokenizer tokenizer;
    vae_encoder *encoder;
} listening;

/* Nothing is loaded yet. The device and the checkpoint are the caller's and must outlive the listening. */
void listening_init(listening *l, ace_device *dev, const ace_checkpoint *checkpoint, int64_t window);
void listening_unload(listening *l);

/* Latents and codes of a recording of `frames` >= 1 audio frames at 48 kHz: floor(frames / 1920), but at least 1, and
 * a fifth of that, rounded up. */
int64_t listening_latents(const ace_checkpoint *checkpoint, int64_t frames);
int64_t listening_codes(const ace_checkpoint *checkpoint, int64_t frames);

/* Where the results go: the caller's host memory. */
typedef struct listening_result {
    float *latents; /* [listening_latents()][latent_channels]; NULL: not wanted */
    int32_t *codes; /* [listening_codes()], each in [0, fsq_codes()); NULL: not wanted, and no tokenizer is loaded */

    /* What a silent recording is: an error, as where the official program converts audio to codes, or, when set, the
     * silence latent, as where it takes a source for the DiT (vae-audio.md 17). */
    bool silence_allowed;
} listening_result;

/* Who watches; both may be NULL. Not called on the meter. */
typedef struct listening_watch {
    void *user;
    /* `done` of `total` latent frames are encoded; called with done = 0 at the beginning. Codes, which cost a twentieth
     * of the latents, are made after done = total. */
    void (*progress)(void *user, int64_t done, int64_t total);
} listening_watch;

/* In the shape of the caller's books: ACE_STAGE_LOAD and ACE_STAGE_LISTEN. */
typedef struct listening_costs {
    ace_stage_cost load, listen;
} listening_costs;

/* Loads what is not loaded yet and hears the source from its beginning. Scratch must be reserved for it (see
 * listening_plan) and is all released afterwards. costs may be NULL. Stops with ACE_CANCELLED when the device's flag
 * says so. After a failure nothing is loaded and the device is ready for the next request. */
bool listening_run(listening *l, audio_source *source, const listening_result *result, const listening_watch *watch,
                   listening_costs *costs, ace_error *error);

typedef struct listening_needs {
    size_t scratch, host, total_peak; /* bytes; host: for ace_scratch_reserve(), not in the peak */
    double flops;
} listening_needs;

/* What listening_run() will need on l's device for a recording of `frames` audio frames, whatever is loaded now: a run
 * on the meter. codes: whether the result has room for codes. A silent recording needs less. */
bool listening_plan(const listening *l, int64_t frames, bool codes, listening_needs *needs, ace_error *error);

#endif
