/* vae.h - the Oobleck autoencoder: latents to audio and back, window after window. (vae-audio.md part A)
 *
 * Both directions stream. A window is computed with exactly the context it needs at every level, clipped to the signal,
 * so the result is bit-identical to processing the whole signal at once, whatever the window, and the working memory
 * depends on the window only, not on the length of the song. The caller reserves that memory (ace_scratch_reserve)
 * after running the same call on the meter.
 *
 * Latents are used raw (no scale, no shift), waveforms are in [-1, 1]; nothing is clipped. Host rows are float32,
 * packed: a latent frame is `latent_channels` values, a sample is `audio_channels` values (interleaved). */
#ifndef ACE_MODEL_VAE_H
#define ACE_MODEL_VAE_H

#include "device/device.h"
#include "model/checkpoint.h"
#include "model/config.h"

/* Samples per latent frame: the product of the strides, 1920. */
int64_t vae_hop(const vae_config *config);

/* Latent frames in `samples` samples: floor(samples / hop), but 1 for a signal shorter than one hop, which is encoded
 * as if zeros followed up to the end of the hop. 0 for no samples. */
int64_t vae_frames(const vae_config *config, int64_t samples);

/* Windows, in latent frames, that serve each direction well; any window >= 1 gives the same bytes. What neighbouring
 * windows compute twice costs 116 / window percent of the decoder's work and 1162 / window percent of the encoder's,
 * whose context spans 12.7 frames at the audio rate. So the decoder's window keeps the working memory of what does not
 * run in pieces below 48 MiB (official dimensions: 67 frames in F32, 101 in BF16, 1.7 and 1.1 % recomputed), the
 * encoder's below 384 MiB (123 and 192 frames, 9.4 and 6.1 %). */
int64_t vae_decode_window(const vae_config *config, ace_dtype act);
int64_t vae_encode_window(const vae_config *config, ace_dtype act);

/* Where a run gets its input and leaves its output. Rows are latent frames or samples, depending on the direction.
 * On the meter no function is called and `rows` is not touched. */
typedef struct vae_stream {
    int64_t window; /* latent frames at once, >= 1; 0: vae_decode_window() or vae_encode_window() */

    /* The input: all rows in memory, or, when `rows` is NULL, a function that fills in rows [first, first + count).
     * Consecutive requests overlap by the halo. */
    const float *rows;
    bool (*read)(void *context, int64_t first, int64_t count, float *rows, ace_error *error);

    /* Takes the output rows [first, first + count), in order and without gaps; they are valid during the call. Returns
     * false to stop, with the reason in *error (none: ACE_CANCELLED). */
    bool (*write)(void *context, int64_t first, int64_t count, const float *rows, ace_error *error);

    /* May be NULL. Called after every window with latent frames done and in all; false stops with ACE_CANCELLED. */
    bool (*progress)(void *context, int64_t done, int64_t total);

    void *context; /* for all three */
} vae_stream;

typedef struct vae_decoder vae_decoder;
typedef struct vae_encoder vae_encoder;

/* Loads one direction: fuses the weight norm and packs. `dev` and `config`'s values are kept; `part` is only read
 * during the call. NULL with an error that names the tensor when one is missing, misshapen, not finite, or cannot be
 * normalised (zero norm). On the meter shapes are checked, values are not read. */
vae_decoder *vae_decoder_load(ace_device *dev, const ace_part *part, const vae_config *config, ace_error *error);
vae_encoder *vae_encoder_load(ace_device *dev, const ace_part *part, const vae_config *config, ace_error *error);

/* NULL is allowed. */
void vae_decoder_free(vae_decoder *decoder);
void vae_encoder_free(vae_encoder *encoder);

/* Decodes `frames` >= 1 latent frames into frames * hop samples. Latents or samples that are not finite are an
 * ACE_ERROR_NUMERIC naming the frame. A failure of the device stays in the device. */
bool vae_decode(const vae_decoder *decoder, int64_t frames, const vae_stream *stream, ace_error *error);

/* What the encoder hands out per frame: latent_channels means, or these followed by as many scales, from which
 * std = softplus(scale) + 1e-4. The program uses means: the same song every time (vae-audio.md 6). */
typedef enum vae_posterior { VAE_MEAN, VAE_MEAN_AND_SCALE } vae_posterior;

/* Encodes `samples` >= 1 samples into vae_frames() latent frames; errors as for vae_decode. */
bool vae_encode(const vae_encoder *encoder, int64_t samples, vae_posterior posterior, const vae_stream *stream,
                ace_error *error);

#endif
