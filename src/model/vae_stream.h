/* vae_stream.h - the host side of a window: input rows in, output rows out, both checked. */
#ifndef ACE_MODEL_VAE_STREAM_H
#define ACE_MODEL_VAE_STREAM_H

#include "model/vae.h"
#include "model/vae_window.h"

/* The largest signal in latent frames: 7 days. Keeps every product of sizes in range. */
enum { VAE_MAX_FRAMES = 1 << 24 };

/* What is at fault when a value is not finite: "<rows> <number> is not a finite number: <cause>". */
typedef struct vae_blame {
    const char *rows, *cause;
} vae_blame;

/* Uploads input rows `span` into y (act dtype); `staging` has room for them. False with an error when they cannot be
 * read or are not finite. Does nothing on the meter. */
bool vae_stream_input(ace_device *dev, const vae_stream *stream, vae_span span, ace_mat y, float *staging,
                      const vae_blame *blame, ace_error *error);

/* Downloads x into `rows`, checks and hands over output rows `span`, and reports that `done` of `total` latent frames
 * are. Does nothing on the meter. */
bool vae_stream_output(ace_device *dev, const vae_stream *stream, vae_span span, ace_mat x, float *rows,
                       const vae_blame *blame, int64_t done, int64_t total, ace_error *error);

#endif
