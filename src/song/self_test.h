/* self_test.h - whether a device computes right, found out in a moment. */
#ifndef ACE_SONG_SELF_TEST_H
#define ACE_SONG_SELF_TEST_H

#include "device/device.h"

/* A product, a convolution and attention whose answers are known. The device must have no scratch in use. False with
 * ACE_ERROR_DEVICE, which says what is wrong, or with the device's own failure. */
bool self_test_device(ace_device *dev, ace_error *error);

#endif
