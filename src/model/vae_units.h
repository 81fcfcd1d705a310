/* vae_units.h - what both directions of the VAE share while they run: the buffers of a window, and the residual units
 * that make up 90 % of the work.
 *
 * Three buffers are alive at a time: the F32 residual stream, the activated copy of it that feeds the next convolution,
 * and that convolution's activated output. Everything else is an epilogue. */
#ifndef ACE_MODEL_VAE_UNITS_H
#define ACE_MODEL_VAE_UNITS_H

#include "model/vae_weights.h"

/* Elements that a window needs in each buffer. */
typedef struct vae_sizes {
    int64_t residual, active, spare;
} vae_sizes;

/* `active` feeds the next convolution, whose output goes to `spare`. The sizes may differ. */
typedef struct vae_buffers {
    ace_mat residual;      /* F32 */
    ace_mat active, spare; /* act dtype */
} vae_buffers;

/* Sizes grow to hold rows x cols. */
void vae_grow(int64_t *size, int64_t rows, int64_t cols);

/* Exchanges the roles of the two activation buffers. */
void vae_swap_sizes(vae_sizes *sizes);
void vae_swap(vae_buffers *buffers);

/* Puts the buffers on the device's scratch. `sizes` is in the roles at the start of a window. */
vae_buffers vae_buffers_new(ace_device *dev, const vae_sizes *sizes);

/* The start of a buffer as a packed rows x cols matrix. */
ace_mat vae_view(ace_mat buffer, int64_t rows, int64_t cols);

/* Three residual units over spans[0] .. spans[3] (see vae_block_window).
 *   residual   F32, positions spans[0]; updated in place, except for the last unit's sum, which only `next` needs
 *   x          act dtype, positions spans[0], in the buffer `active`: snake1 of the first unit applied to residual
 *   next       the activation that follows the last unit
 * Returns next(residual after three units), positions spans[3], in the buffer `active`. */
ace_mat vae_units_run(ace_device *dev, const vae_unit units[VAE_UNITS], const vae_span *spans, ace_mat residual,
                      ace_mat x, const vae_buffers *buffers, const ace_snake_weights *next);

#endif
