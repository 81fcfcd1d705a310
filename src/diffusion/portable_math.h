/* portable_math.h - logarithm, sine and cosine from additions, multiplications and divisions only.
 *
 * A C library's own differ in the last bit from one platform to the next; these give the same bits wherever a double is
 * IEEE 754 binary64 and the compiler contracts nothing, which is what noise from a seed needs. Error below 2 ulp. */
#ifndef ACE_DIFFUSION_PORTABLE_MATH_H
#define ACE_DIFFUSION_PORTABLE_MATH_H

/* Natural logarithm of a positive, normal, finite x. */
double portable_log(double x);

/* Sine and cosine of 2*pi*turns, turns in [0, 1]. */
void portable_sincos_turns(double turns, double *sine, double *cosine);

/* Sine and cosine of an angle in [0, 2*pi] given in radians as a float32 value. */
void portable_sincos(float angle, double *sine, double *cosine);

#endif
