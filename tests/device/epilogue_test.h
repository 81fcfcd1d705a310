/* epilogue_test.h - epilogues of products: random ones, and what they make of a sum in double precision. */
#ifndef EPILOGUE_TEST_H
#define EPILOGUE_TEST_H

#include "device_test.h"

typedef struct epilogue_case {
    host_weight bias, alpha, inv_beta;
    fenced gate, residual, act;
    bool silu, store, has_bias, has_gate, has_residual, has_snake;
} epilogue_case;

typedef struct expected {
    double y, act;                   /* before rounding to the stored type */
    double tolerance, act_tolerance; /* of the arithmetic */
} expected;

static inline double silu(double z)
{
    return z / (1 + exp(-z));
}

/* What a sum of k products may be off by, of which the absolute values add up to `magnitude`. */
static inline double sum_tolerance(double magnitude, int64_t k)
{
    return 0x1p-24 * (8 + 2 * sqrt((double)k)) * magnitude + 1e-30;
}

/* p: the sum, which may be off by `tolerance`. */
static inline expected finish(const epilogue_case *e, double p, double tolerance, int64_t m, int64_t n, int64_t cols)
{
    if (e->has_bias) p += e->bias.values[n];
    if (e->silu) {
        p = silu(p);
        tolerance = 1.2 * tolerance + 4e-7 * fabs(p);
    }
    if (e->has_gate) {
        p *= e->gate.host[n];
        tolerance *= fabs((double)e->gate.host[n]);
    }
    if (e->has_residual) p += e->residual.host[m * cols + n];
    tolerance += 2e-7 * (fabs(p) + 1);
    expected result = {.y = p, .act = p, .tolerance = tolerance, .act_tolerance = tolerance};
    if (e->has_snake) {
        double a = e->alpha.values[n], b = e->inv_beta.values[n], s = sin(a * p);
        result.act = p + s * s * b;
        result.act_tolerance = tolerance * (1 + fabs(a * b)) + 1e-6 * (fabs(b) + fabs(p) + fabs(a * p * b));
    }
    return result;
}

static inline epilogue_case random_epilogue(ace_device *dev, random_state *r, int64_t rows, int64_t cols, unsigned bits)
{
    epilogue_case e = {.has_bias = bits & 1,
                       .silu = bits & 2,
                       .has_gate = bits & 4,
                       .has_residual = bits & 8,
                       .has_snake = bits & 16,
                       .store = !(bits & 16) || (bits & 32)};
    if (e.has_bias) e.bias = make_weight(dev, r, ACE_WEIGHT_VECTOR, cols, 1, 1, -2, 2);
    if (e.has_gate) e.gate = fence(dev, r, ACE_F32, 1, cols, -2, 2);
    if (e.has_residual) e.residual = fence(dev, r, ACE_F32, rows, cols, -2, 2);
    if (e.has_snake) {
        e.alpha = make_weight(dev, r, ACE_WEIGHT_VECTOR, cols, 1, 1, 0.1f, 3);
        e.inv_beta = make_weight(dev, r, ACE_WEIGHT_VECTOR, cols, 1, 1, 0.1f, 3);
        e.act = fence(dev, r, (bits & 64) ? ACE_F32 : ace_device_act(dev), rows, cols, 0, 0);
    }
    return e;
}

static inline void drop_epilogue(ace_device *dev, epilogue_case *e)
{
    if (e->has_bias) drop_weight(dev, &e->bias);
    if (e->has_gate) free(e->gate.host);
    if (e->has_residual) free(e->residual.host);
    if (!e->has_snake) return;
    drop_weight(dev, &e->alpha);
    drop_weight(dev, &e->inv_beta);
    free(e->act.host);
}

/* As ace_linear() takes it. `snake` is filled in and must live as long. */
static inline ace_epilogue epilogue_of(const epilogue_case *e, ace_snake_weights *snake)
{
    *snake = (ace_snake_weights){e->alpha.w, e->inv_beta.w};
    return (ace_epilogue){.bias = e->bias.w,
                          .silu = e->silu,
                          .gate = e->gate.mat,
                          .residual = e->residual.mat,
                          .snake = e->has_snake ? snake : NULL,
                          .act = e->act.mat};
}

/* Element (m, n) of y and act, which were fetched. */
static inline void check_element(const epilogue_case *e, const fenced *y, expected want, int64_t m, int64_t n)
{
    int64_t cols = y->mat.cols;
    if (e->store) check_close("y", m, n, y->host[m * cols + n], want.y, want.tolerance + storing(want.y, y->mat.dtype));
    if (e->has_snake)
        check_close("act", m, n, e->act.host[m * cols + n], want.act,
                    want.act_tolerance + storing(want.act, e->act.mat.dtype));
}

#endif
