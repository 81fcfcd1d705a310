/* latent.h - the shape of what this room works on.
 *
 * A latent is float32 [frames, 64], channels contiguous, 25 frames per second; a batch is items one after the other.
 * Time t runs from 1 (pure noise) to 0 (clean); the velocity v points from clean to noise, so x(t) = x0 + v*t. */
#ifndef ACE_DIFFUSION_LATENT_H
#define ACE_DIFFUSION_LATENT_H

enum { LATENT_CHANNELS = 64 };

#endif
