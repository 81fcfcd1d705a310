/* bench_quantization.h - acestep bench --stage quantization. */
#ifndef ACE_CLI_BENCH_QUANTIZATION_H
#define ACE_CLI_BENCH_QUANTIZATION_H

#include <acestep.h>

/* Measures and prints how far each form of the weights is from the exact one. Returns the exit code. */
int bench_quantization(const ace_engine_options *options, double duration, bool json);

#endif
