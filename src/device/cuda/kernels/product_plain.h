/* product_plain.h - the families of kernels without matrix instructions, for all forms of a type: included by the files
 * that compile them, after they have defined PRODUCT_OF(shape), a kernel, and `type`. */

namespace
{

template <gpu_form FORM> struct forms {
    typedef product_shape<plain_math<type, 8, 8, 2, 4>, FORM, 1, 3> tile_16x32;
    typedef product_shape<plain_math<type, 8, 8, 8, 4>, FORM, 1, 3> tile_64x32;
    static product_family family()
    {
        static const product_kernel kernels[] = {
            PRODUCT_KERNEL(PRODUCT_OF, tile_16x32, 0.4f),
            PRODUCT_KERNEL(PRODUCT_OF, tile_64x32, 1.0f),
        };
        return {kernels, sizeof kernels / sizeof *kernels};
    }
};

} // namespace

template <gpu_form FORM> static product_family plain_family()
{
    typedef product_shape<plain_math<type, 8, 8, 2, 4>, FORM, 1, 4> tile_16x32;
    typedef product_shape<plain_math<type, 16, 8, 4, 8>, FORM, 1, 3> tile_64x64;
    typedef product_shape<plain_math<type, 16, 16, 8, 4>, FORM, 1, 2> tile_128x64;
    static const product_kernel kernels[] = {
        PRODUCT_KERNEL(PRODUCT_OF, tile_16x32, 0.4f),
        PRODUCT_KERNEL(PRODUCT_OF, tile_64x64, 0.8f),
        PRODUCT_KERNEL(PRODUCT_OF, tile_128x64, 1.0f),
    };
    return {kernels, sizeof kernels / sizeof *kernels};
}
