/* rates.h - what this machine's CPUs can do at best, to hold the program's speed against. */
#ifndef ACE_DEVICE_RATES_H
#define ACE_DEVICE_RATES_H

#include <stdbool.h>

/* Seconds: processor time of this thread when it is `alone`, so that other programs count less; else the time on the
 * wall. */
double rates_clock(bool alone);

/* GFLOP/s of `threads` threads (0: all CPUs; 1: in processor time) doing independent fused multiply-adds of float32 in
 * the widest vectors that the open CPU device of that name uses, or products of bf16 tiles if it uses a matrix unit.
 * The best of a few runs; 0 when the threads cannot be started. */
double rates_multiply(const char *device, int threads);

/* GB/s at which `threads` threads read memory that no cache holds, each its own part. The best of a few runs; 0 when
 * there is no memory for it. */
double rates_read(int threads);

#endif
