/* dcw.h - differential correction in the wavelet domain (arXiv:2604.16044; dit.md 13).
 *
 * After a step the state x is pushed away from the clean latent y predicted at its start, with a strength per band of
 * a one-level wavelet transform along time: x += W'(strength * W(x - y)). One item [frames, 64] at a time. */
#ifndef ACE_DIFFUSION_DCW_H
#define ACE_DIFFUSION_DCW_H

#include <stdbool.h>
#include <stddef.h>

typedef enum dcw_mode { DCW_LOW, DCW_HIGH, DCW_DOUBLE, DCW_PIX } dcw_mode;
typedef enum dcw_wavelet { DCW_HAAR, DCW_DB2, DCW_DB4, DCW_SYM4, DCW_SYM8, DCW_COIF1, DCW_WAVELETS } dcw_wavelet;

typedef struct dcw_options {
    bool enabled;
    dcw_mode mode;
    dcw_wavelet wavelet;
    double scaler;      /* low and pix; high in mode high */
    double high_scaler; /* high in mode double */
} dcw_options;

/* "low", "high", "double", "pix"; PyWavelets' names. NULL for a value outside the enum. */
const char *dcw_mode_name(dcw_mode mode);
bool dcw_mode_from_name(const char *name, dcw_mode *mode);
const char *dcw_wavelet_name(dcw_wavelet wavelet);
bool dcw_wavelet_from_name(const char *name, dcw_wavelet *wavelet); /* "db1" is haar */

/* False when the correction would change nothing. */
bool dcw_active(const dcw_options *options);

/* Floats of scratch that dcw_apply needs for an item of that many frames. */
size_t dcw_floats(const dcw_options *options, size_t frames);

/* Corrects x in place; t is the timestep at which the step started, y = x_before - v*t. */
void dcw_apply(const dcw_options *options, float t, float *x, const float *y, size_t frames, float *scratch);

#endif
