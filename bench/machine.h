/* machine.h - what the machine can do at best, to hold the program's rates against. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>

/* Seconds: processor time of this thread when it is `alone`, else the time on the wall. */
double machine_clock(bool alone);

/* GFLOP/s of `threads` threads (0: all CPUs; 1: in processor time) doing independent fused multiply-adds of float32 in
 * the widest vectors that the device of that name uses, or products of bf16 tiles if it uses a matrix unit. The best of
 * a few runs. */
double machine_peak(const char *device, int threads);

/* GB/s at which `threads` threads read memory that no cache holds, each its own part. The best of a few runs. */
double machine_read_rate(int threads);

#endif
