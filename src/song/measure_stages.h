/* measure_stages.h - what a device reaches in the stages of a song that take longest, measured by the model's own code
 * on a small part of the work, with weights of random numbers. */
#ifndef ACE_SONG_MEASURE_STAGES_H
#define ACE_SONG_MEASURE_STAGES_H

#include "song/engine.h"

/* FLOP/s of a layer of the diffusion transformer with full attention and one with a band, in the form of the engine's
 * weights, for as many tokens as a song of `duration` seconds has, or for those that take about a quarter of a second
 * at `usual` FLOP/s. 0 with an error. */
double measure_diffusion(ace_engine *engine, double duration, double usual, ace_error *error);

/* FLOP/s of the residual units of the VAE's decoder, of each width as many positions as there are in ten latent frames,
 * or in those that take about a quarter of a second at `usual` FLOP/s. 0 with an error. */
double measure_decode(ace_engine *engine, double usual, ace_error *error);

#endif
