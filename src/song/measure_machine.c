/* measure_machine.c - what this machine can do at best, for all that is measured to be held against. */
#include "base/error.h"
#include "device/rates.h"

#include <acestep.h>

bool ace_measure_machine(const char *device, int threads, ace_machine_rates *rates, ace_error *error)
{
    *rates = (ace_machine_rates){.multiply = rates_multiply(device, threads), .read = rates_read(threads)};
    if (rates->multiply > 0 && rates->read > 0) return true;
    return ace_fail(error, ACE_ERROR_MEMORY, "no memory for the 512 MiB that are read to measure this machine");
}
