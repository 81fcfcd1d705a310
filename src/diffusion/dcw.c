/* dcw.c - see dcw.h. By linearity only the difference x - y is transformed. */
#include "diffusion/dcw.h"

#include "diffusion/latent.h"

#include <string.h>

/* Low-pass analysis filters (Daubechies, "Ten lectures on wavelets"; the numbers of PyWavelets). The other three of a
 * bank follow: rec_lo[j] = dec_lo[L-1-j], dec_hi[j] = (-1)^(j+1) rec_lo[j], rec_hi[j] = dec_hi[L-1-j]. */
enum { MAX_TAPS = 16 };
typedef struct filter {
    const char *name;
    int taps;
    double dec_lo[MAX_TAPS];
} filter;

static const filter FILTERS[DCW_WAVELETS] = {
    [DCW_HAAR] = {"haar", 2, {0.7071067811865476, 0.7071067811865476}},
    [DCW_DB2] = {"db2", 4, {-0.12940952255126037, 0.2241438680420134, 0.8365163037378079, 0.48296291314453416}},
    [DCW_DB4] = {"db4",
                 8,
                 {-0.010597401785069032, 0.0328830116668852, 0.030841381835560764, -0.18703481171909309,
                  -0.027983769416859854, 0.6308807679298589, 0.7148465705529157, 0.2303778133088965}},
    [DCW_SYM4] = {"sym4",
                  8,
                  {-0.07576571478927333, -0.02963552764599851, 0.49761866763201545, 0.8037387518059161,
                   0.29785779560527736, -0.09921954357684722, -0.012603967262037833, 0.0322231006040427}},
    [DCW_SYM8] = {"sym8",
                  16,
                  {-0.0033824159510061256, -0.0005421323317911481, 0.03169508781149298, 0.007607487324917605,
                   -0.1432942383508097, -0.061273359067658524, 0.4813596512583722, 0.7771857517005235,
                   0.3644418948353314, -0.05194583810770904, -0.027219029917056003, 0.049137179673607506,
                   0.003808752013890615, -0.01495225833704823, -0.0003029205147213668, 0.0018899503327594609}},
    [DCW_COIF1] = {"coif1",
                   6,
                   {-0.015655728135791993, -0.07273261951252645, 0.3848648468648578, 0.8525720202116004,
                    0.3378976624574818, -0.07273261951252645}},
};

static const char *const MODES[] = {[DCW_LOW] = "low", [DCW_HIGH] = "high", [DCW_DOUBLE] = "double", [DCW_PIX] = "pix"};
enum { MODE_COUNT = sizeof MODES / sizeof *MODES };

const char *dcw_mode_name(dcw_mode mode)
{
    return (unsigned)mode < MODE_COUNT ? MODES[mode] : NULL;
}

bool dcw_mode_from_name(const char *name, dcw_mode *mode)
{
    for (unsigned i = 0; i < MODE_COUNT; i++) {
        if (strcmp(name, MODES[i]) == 0) {
            *mode = (dcw_mode)i;
            return true;
        }
    }
    return false;
}

const char *dcw_wavelet_name(dcw_wavelet wavelet)
{
    return (unsigned)wavelet < DCW_WAVELETS ? FILTERS[wavelet].name : NULL;
}

bool dcw_wavelet_from_name(const char *name, dcw_wavelet *wavelet)
{
    if (strcmp(name, "db1") == 0) name = "haar";
    for (unsigned i = 0; i < DCW_WAVELETS; i++) {
        if (strcmp(name, FILTERS[i].name) == 0) {
            *wavelet = (dcw_wavelet)i;
            return true;
        }
    }
    return false;
}

bool dcw_active(const dcw_options *options)
{
    if (!options->enabled) return false;
    return options->scaler != 0 || (options->mode == DCW_DOUBLE && options->high_scaler != 0);
}

/* Coefficients per band for a signal of n samples, and the length to which the signal is padded with zeros. */
static size_t band_length(size_t n, int taps)
{
    return (n + (size_t)taps - 1) / 2;
}

static size_t padded_length(size_t n, int taps)
{
    return 2 * band_length(n, taps) + (size_t)taps - 2;
}

size_t dcw_floats(const dcw_options *options, size_t frames)
{
    if (!dcw_active(options) || options->mode == DCW_PIX || options->wavelet == DCW_HAAR) return 0;
    int taps = FILTERS[options->wavelet].taps;
    return padded_length(frames, taps) + 2 * band_length(frames, taps);
}

/* Pairs of frames (a, b): the low band moves their mean m, the high band their half difference h. An odd last frame
 * is paired with zero. */
static void apply_haar(float low, float high, float *x, const float *y, size_t frames)
{
    enum { C = LATENT_CHANNELS };
    for (size_t f = 0; f < frames; f += 2) {
        float *xa = x + f * C;
        const float *ya = y + f * C;
        bool paired = f + 1 < frames;
        for (int c = 0; c < C; c++) {
            float da = xa[c] - ya[c], db = paired ? xa[C + c] - ya[C + c] : 0.0f;
            float m = low * ((da + db) * 0.5f), h = high * ((da - db) * 0.5f);
            xa[c] += m + h;
            if (paired) xa[C + c] += m - h;
        }
    }
}

/* One channel, x with stride 64: the difference, zero-padded on both sides, is split into bands lo and hi of `band`
 * coefficients, which are weighted and synthesised into x. Padding and phase as pytorch_wavelets, mode "zero". */
static void correct_channel(const filter *bank, float low, float high, const float *signal, size_t band, float *lo,
                            float *hi, float *x, size_t frames)
{
    const size_t taps = (size_t)bank->taps;
    float rec_lo[MAX_TAPS], rec_hi[MAX_TAPS]; /* as correlations these are the analysis filters, too */
    for (size_t j = 0; j < taps; j++) {
        rec_lo[j] = (float)bank->dec_lo[taps - 1 - j];
        rec_hi[j] = (float)(j % 2 ? -bank->dec_lo[j] : bank->dec_lo[j]);
    }
    for (size_t k = 0; k < band; k++) {
        float l = 0, h = 0;
        for (size_t j = 0; j < taps; j++) {
            l += rec_lo[j] * signal[2 * k + j];
            h += rec_hi[j] * signal[2 * k + j];
        }
        lo[k] = low * l;
        hi[k] = high * h;
    }
    for (size_t n = 0; n < frames; n++) {
        const size_t top = n + taps - 2; /* every k whose tap top - 2k is one of the filter's */
        float sum = 0;
        for (size_t k = n / 2; 2 * k <= top; k++) sum += lo[k] * rec_lo[top - 2 * k] + hi[k] * rec_hi[top - 2 * k];
        x[n * LATENT_CHANNELS] += sum;
    }
}

static void apply_filters(const filter *bank, float low, float high, float *x, const float *y, size_t frames,
                          float *scratch)
{
    const size_t band = band_length(frames, bank->taps), padded = padded_length(frames, bank->taps);
    const size_t lead = (padded - frames) / 2;
    float *signal = scratch, *lo = signal + padded, *hi = lo + band;
    for (size_t i = 0; i < padded; i++) signal[i] = 0;
    for (int c = 0; c < LATENT_CHANNELS; c++) {
        for (size_t f = 0; f < frames; f++) signal[lead + f] = x[f * LATENT_CHANNELS + c] - y[f * LATENT_CHANNELS + c];
        correct_channel(bank, low, high, signal, band, lo, hi, x + c, frames);
    }
}

void dcw_apply(const dcw_options *options, float t, float *x, const float *y, size_t frames, float *scratch)
{
    if (!dcw_active(options)) return;
    if (options->mode == DCW_PIX) {
        for (size_t i = 0; i < frames * LATENT_CHANNELS; i++) x[i] += (float)options->scaler * (x[i] - y[i]);
        return;
    }
    double low = options->mode == DCW_HIGH ? 0 : t * options->scaler;
    double high = 0; /* the high band is corrected late, when the model paints detail */
    if (options->mode == DCW_HIGH) high = (1.0 - t) * options->scaler;
    if (options->mode == DCW_DOUBLE) high = (1.0 - t) * options->high_scaler;
    if (options->wavelet == DCW_HAAR)
        apply_haar((float)low, (float)high, x, y, frames);
    else
        apply_filters(&FILTERS[options->wavelet], (float)low, (float)high, x, y, frames, scratch);
}
