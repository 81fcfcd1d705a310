/* vae_weights.h - the VAE's convolutions and activations as weights of a device: weight norm fused, kernels repacked,
 * snake parameters out of log scale. (vae-audio.md 2-4; layouts: ace_conv1d in device.h)
 *
 * Everything is made row by row while the device packs, so loading needs no second copy of a weight on the host. */
#ifndef ACE_MODEL_VAE_WEIGHTS_H
#define ACE_MODEL_VAE_WEIGHTS_H

#include "model/vae_window.h"
#include "model/weights.h"

typedef struct vae_conv {
    ace_weight *weight, *bias; /* bias NULL: none */
} vae_conv;

/* conv2(snake2(conv1(snake1(h)))) + h. snake1 is applied by whatever computes h. */
typedef struct vae_unit {
    ace_snake_weights snake1, snake2;
    vae_conv conv1, conv2;
} vae_unit;

/* Refuses dimensions that no such network can have (ACE_ERROR_MODEL). */
bool vae_config_check(const vae_config *config, ace_error *error);

/* A Conv1d [out, in, taps]. `name` is the module's name without ".weight...". */
vae_conv vae_load_conv(ace_weight_set *set, int64_t out, int64_t in, int taps, bool bias, const char *name);

/* A ConvTranspose1d [in, out, 2 * stride] as a convolution of 2 taps with stride * out outputs; the bias is repeated
 * for each phase. */
vae_conv vae_load_transposed(ace_weight_set *set, int64_t in, int64_t out, int stride, const char *name);

/* The activation of `channels` channels, repeated for each of `phases` phases of a transposed convolution. */
ace_snake_weights vae_load_snake(ace_weight_set *set, int64_t channels, int phases, const char *name);

/* "<block>.res_unit1" to "3"; the first snake1 is repeated for `phases`. */
void vae_load_units(ace_weight_set *set, vae_unit units[VAE_UNITS], int64_t channels, int phases, const char *block);

#endif
