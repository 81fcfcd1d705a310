#include "song/compute.h"

#include "device/cuda/cuda.h"
#include "vram/machine.h"

ace_device *compute_open(const ace_machine *machine, const compute_options *o, ace_error *error)
{
    if (!machine->computes) {
        ace_cpu_options cpu = {.precision = o->precision, .threads = o->threads, .stop = o->stop};
        return ace_cpu_open(&cpu, error);
    }
    ace_cuda_options cuda = {.precision = o->precision,
                             .device = machine->detected.devices[machine->device].number,
                             .stop = o->stop,
                             .gpu = machine->plugin.gpu};
    return ace_cuda_open(&cuda, error);
}

size_t compute_free_bytes(const ace_machine *machine)
{
    cuda_card card;
    ace_error unread = {0};
    if (!machine->computes) return 0;
    int number = machine->detected.devices[machine->device].number;
    return cuda_plugin_look(&machine->plugin, number, &card, &unread) ? card.free : 0;
}
