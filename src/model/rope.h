/* rope.h - tables of rotary positions (dit.md 2.3). */
#ifndef ACE_MODEL_ROPE_H
#define ACE_MODEL_ROPE_H

#include "device/device.h"

/* F32 [positions][head_dim], left on top of the scratch stack: row p holds the cosines of the head_dim / 2 angles
 * p * theta^(-2i / head_dim), then their sines. The angle is a float32 product, as in the reference: at position 7000
 * its rounding is visible in the result, so more precision would be less parity. */
ace_mat rope_table(ace_device *dev, int64_t positions, int head_dim, double theta);

#endif
