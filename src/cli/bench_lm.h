/* bench_lm.h - acestep bench --stage lm. */
#ifndef ACE_CLI_BENCH_LM_H
#define ACE_CLI_BENCH_LM_H

#include <acestep.h>

/* Measures and prints the planner's speed. Returns the exit code. */
int bench_lm(const ace_measure_lm_options *options, bool json);

#endif
