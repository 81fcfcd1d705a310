#include "model/vae_units.h"

#include "base/error.h"

#include <math.h>

/* ---- buffers ------------------------------------------------------------------------------------------------- */

void vae_grow(int64_t *size, int64_t rows, int64_t cols)
{
    if (rows * cols > *size) *size = rows * cols;
}

void vae_swap_sizes(vae_sizes *sizes)
{
    int64_t active = sizes->active;
    sizes->active = sizes->spare;
    sizes->spare = active;
}

void vae_swap(vae_buffers *buffers)
{
    ace_mat active = buffers->active;
    buffers->active = buffers->spare;
    buffers->spare = active;
}

vae_buffers vae_buffers_new(ace_device *dev, const vae_sizes *sizes)
{
    return (vae_buffers){
        .residual = ace_scratch(dev, ACE_F32, 1, sizes->residual),
        .active = ace_scratch(dev, ace_device_act(dev), 1, sizes->active),
        .spare = ace_scratch(dev, ace_device_act(dev), 1, sizes->spare),
    };
}

ace_mat vae_view(ace_mat buffer, int64_t rows, int64_t cols)
{
    return (ace_mat){buffer.data, buffer.dtype, rows, cols, cols};
}

/* ---- residual units ------------------------------------------------------------------------------------------ */

ace_mat vae_units_run(ace_device *dev, const vae_unit units[VAE_UNITS], const vae_span spans[VAE_UNITS + 1],
                      ace_mat residual, ace_mat x, const vae_buffers *buffers, const ace_snake_weights *next)
{
    const ace_mat none = {0};
    for (int j = 0; j < VAE_UNITS; j++) {
        const vae_unit *unit = &units[j];
        vae_span in = spans[j], out = spans[j + 1];
        int64_t rows = vae_span_length(out);
        bool last = j == VAE_UNITS - 1;

        ace_mat hidden = vae_view(buffers->spare, rows, x.cols);
        ace_conv conv = {.x_first = in.first,
                         .out_first = out.first,
                         .stride = 1,
                         .dilation = vae_dilation(j),
                         .padding = 3 * vae_dilation(j)};
        ace_epilogue activate = {.bias = unit->conv1.bias, .snake = &unit->snake2, .act = hidden};
        ace_conv1d(dev, none, x, unit->conv1.weight, &conv, &activate);

        ace_mat sum = ace_rows(residual, out.first - spans[0].first, rows);
        x = vae_view(buffers->active, rows, x.cols);
        ace_epilogue add = {
            .bias = unit->conv2.bias, .residual = sum, .snake = last ? next : &units[j + 1].snake1, .act = x};
        ace_linear(dev, last ? none : sum, hidden, unit->conv2.weight, &add);
    }
    return x;
}

/* ---- host side ----------------------------------------------------------------------------------------------- */

/* The first row that holds a value that is not finite, -1 when there is none. */
static int64_t first_bad_row(const float *rows, int64_t count, int64_t cols)
{
    for (int64_t i = 0; i < count * cols; i++)
        if (!isfinite(rows[i])) return i / cols;
    return -1;
}

static bool check_finite(const float *rows, vae_span span, int64_t cols, const char *what, ace_error *error)
{
    int64_t bad = first_bad_row(rows, vae_span_length(span), cols);
    if (bad < 0) return true;
    return ace_fail(error, ACE_ERROR_NUMERIC, "%s %lld is not a finite number", what, (long long)(span.first + bad));
}

bool vae_stream_input(ace_device *dev, const vae_stream *stream, vae_span span, ace_mat y, float *staging,
                      const char *what, ace_error *error)
{
    if (ace_device_is_meter(dev)) return true;
    if (!ace_device_ok(dev, error)) return false;
    const float *rows = staging;
    if (stream->rows)
        rows = stream->rows + span.first * y.cols;
    else if (!stream->read(stream->context, span.first, vae_span_length(span), staging, error))
        return ace_fail(error, ACE_CANCELLED, "stopped");
    if (!check_finite(rows, span, y.cols, what, error)) return false;
    ace_upload(dev, y, rows);
    return true;
}

bool vae_stream_output(const vae_stream *stream, vae_span span, int64_t cols, const float *rows, const char *what,
                       ace_error *error)
{
    if (!check_finite(rows, span, cols, what, error)) return false;
    return stream->write(stream->context, span.first, vae_span_length(span), rows, error) ||
           ace_fail(error, ACE_CANCELLED, "stopped");
}

bool vae_stream_progress(const vae_stream *stream, int64_t done, int64_t total, ace_error *error)
{
    return !stream->progress || stream->progress(stream->context, done, total) ||
           ace_fail(error, ACE_CANCELLED, "stopped");
}
