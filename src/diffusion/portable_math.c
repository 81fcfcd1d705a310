/* portable_math.c - see portable_math.h. */
#include "diffusion/portable_math.h"

#include <math.h>

double portable_log(double x)
{
    /* x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m - 1)/(m + 1)), |s| <= 0.172 */
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752440) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1);
    double z = s * s;
    double sum = 0;
    for (int k = 23; k >= 3; k -= 2) sum = (sum + 1.0 / k) * z;
    /* ln 2 in two parts, the first with trailing zeros, so that e times it is exact */
    return e * 0x1.62e42fefa0000p-1 + (e * 0x1.cf79abc9e3b3ap-40 + (2 * s + 2 * s * sum));
}

/* Sine and cosine of quarter*pi/2 + a, |a| <= pi/4: Taylor series to a^17 and a^18. */
static void sincos_quarter(int quarter, double a, double *sine, double *cosine)
{
    double z = a * a, s = 0, c = 0;
    for (int k = 16; k >= 2; k -= 2) s = -z / (k * (k + 1.0)) * (1 + s);
    for (int k = 17; k >= 1; k -= 2) c = -z / (k * (k + 1.0)) * (1 + c);
    s = a + a * s;
    c = 1 + c;
    switch (quarter & 3) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
        break;
    }
}

void portable_sincos_turns(double turns, double *sine, double *cosine)
{
    int quarter = (int)(turns * 4 + 0.5);
    double a = (turns - quarter * 0.25) * 6.28318530717958647693; /* the difference is exact */
    sincos_quarter(quarter, a, sine, cosine);
}

void portable_sincos(float angle, double *sine, double *cosine)
{
    int quarter = (int)(angle * 0.63661977236758134308 + 0.5);
    /* pi/2 in two parts, the first with trailing zeros, so that quarter times it is exact */
    double a = (angle - quarter * 0x1.921fb54440000p+0) - quarter * 0x1.68c234c4c6629p-39;
    sincos_quarter(quarter, a, sine, cosine);
}
