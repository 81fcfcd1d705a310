#include "model/vae_stream.h"

#include "base/error.h"

#include <math.h>

static bool stopped(ace_error *error)
{
    return ace_fail(error, ACE_CANCELLED, "stopped");
}

static bool check_finite(const float *rows, vae_span span, int64_t cols, const vae_blame *blame, ace_error *error)
{
    int64_t count = vae_span_length(span) * cols;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(rows[i]))
            return ace_fail(error, ACE_ERROR_NUMERIC, "%s %lld is not a finite number: %s", blame->rows,
                            (long long)(span.first + i / cols), blame->cause);
    return true;
}

bool vae_stream_input(ace_device *dev, const vae_stream *stream, vae_span span, ace_mat y, float *staging,
                      const vae_blame *blame, ace_error *error)
{
    if (!ace_device_ok(dev, error)) return false;
    if (ace_device_is_meter(dev)) return true;
    const float *rows = staging;
    if (stream->rows)
        rows = stream->rows + span.first * y.cols;
    else if (!stream->read(stream->context, span.first, vae_span_length(span), staging, error))
        return stopped(error);
    if (!check_finite(rows, span, y.cols, blame, error)) return false;
    ace_upload(dev, y, rows);
    return true;
}

bool vae_stream_output(ace_device *dev, const vae_stream *stream, vae_span span, ace_mat x, float *rows,
                       const vae_blame *blame, int64_t done, int64_t total, ace_error *error)
{
    ace_download(dev, rows, x);
    if (!ace_device_ok(dev, error)) return false;
    if (ace_device_is_meter(dev)) return true;
    if (!check_finite(rows, span, x.cols, blame, error)) return false;
    if (!stream->write(stream->context, span.first, vae_span_length(span), rows, error)) return stopped(error);
    return !stream->progress || stream->progress(stream->context, done, total) || stopped(error);
}
