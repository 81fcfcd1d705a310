/* A device that computes wrongly is found out before a song is made on it. */
#include "song_fixture.h"

#include "device/cuda/cuda.h"
#include "device/cuda/emulation/emulated_gpu.h"
#include "song/self_test.h"

static int nothing(gpu_stream *stream, const gpu_product *product)
{
    (void)stream;
    (void)product;
    return 0;
}

static int no_attention(gpu_stream *stream, const gpu_attention *attention)
{
    (void)stream;
    (void)attention;
    return 0;
}

static ace_device *open_gpu(const gpu *functions, ace_dtype precision)
{
    ace_error error = {0};
    ace_device *dev = ace_cuda_open(&(ace_cuda_options){.precision = precision, .gpu = functions}, &error);
    if (!dev) fail_msg("%s", error.message);
    return dev;
}

static void a_device_that_computes_right_passes(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        ace_error error = {0};
        ace_device *dev = open_gpu(gpu_emulated(), i ? ACE_BF16 : ACE_F32);
        if (!self_test_device(dev, &error)) fail_msg("%s", error.message);
        ace_device_stats stats = ace_device_get_stats(dev);
        assert_int_equal(stats.weight_bytes, 0);
        assert_int_equal(stats.scratch_bytes, 0);
        ace_device_close(dev);
    }
}

static void a_device_that_computes_wrongly_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        ace_error error = {0};
        gpu broken = *gpu_emulated();
        if (i == 0) broken.product = nothing;
        if (i == 1) broken.attention = no_attention;
        ace_device *dev = open_gpu(&broken, ACE_BF16);
        assert_false(self_test_device(dev, &error));
        assert_int_equal(error.status, ACE_ERROR_DEVICE);
        if (!strstr(error.message, i == 0 ? "matrix product WRONG, convolution WRONG, attention exact"
                                          : "matrix product exact, convolution exact, attention WRONG"))
            fail_msg("%s", error.message);
        ace_device_close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_that_computes_right_passes),
        cmocka_unit_test(a_device_that_computes_wrongly_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
