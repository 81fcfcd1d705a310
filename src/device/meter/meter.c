/* meter.c - the device that only counts. Everything it needs is done by device.c; here are its sizes. */
#include "base/error.h"
#include "base/memory.h"
#include "device/backend.h"

#include <stdio.h>

static void meter_close(ace_device *dev)
{
    (void)dev;
}

static size_t meter_weight_bytes(const ace_device *dev, const ace_weight_desc *desc)
{
    const ace_device *like = dev->backend;
    return like->ops->weight_bytes(like, desc);
}

static size_t meter_product_scratch(const ace_device *dev, const ace_weight_desc *desc, int64_t rows)
{
    const ace_device *like = dev->backend;
    return like->ops->product_scratch(like, desc, rows);
}

static const ace_backend_ops meter_ops = {
    .close = meter_close, .weight_bytes = meter_weight_bytes, .product_scratch = meter_product_scratch};

ace_device *ace_meter_open(const ace_device *like, ace_error *error)
{
    ace_device *dev = ace_calloc(1, sizeof *dev, "the meter", error);
    if (!dev) return NULL;
    dev->ops = &meter_ops;
    snprintf(dev->name, sizeof dev->name, "meter for %.80s", like->name);
    dev->meter = true;
    dev->apart = like->apart;
    dev->samples = like->samples;
    dev->act = like->act;
    dev->near_bytes = like->near_bytes;
    dev->prefers_int8 = like->prefers_int8;
    dev->stats.workspace = like->stats.workspace;
    dev->scratch_limit = dev->host_limit = SIZE_MAX;
    dev->backend = (void *)(uintptr_t)like;
    return dev;
}
