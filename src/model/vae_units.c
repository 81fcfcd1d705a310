#include "model/vae_units.h"

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

ace_mat vae_units_run(ace_device *dev, const vae_unit units[VAE_UNITS], const vae_span *spans, ace_mat residual,
                      ace_mat x, const vae_buffers *buffers, const ace_snake_weights *next)
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
