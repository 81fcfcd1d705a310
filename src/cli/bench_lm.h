/* bench_lm.h - acestep bench --stage lm, and what the machine can do next to every measurement. */
#ifndef ACE_CLI_BENCH_LM_H
#define ACE_CLI_BENCH_LM_H

#include <acestep.h>

/* Measures and prints the planner's speed. Returns the exit code. */
int bench_lm(const ace_measure_lm_options *options, bool json);

/* What the machine can do, measured before and after: a line, or the JSON member "machine". */
void bench_machine_text(const ace_machine_rates *before, const ace_machine_rates *after, int threads);
void bench_machine_json(const ace_machine_rates *before, const ace_machine_rates *after);

#endif
