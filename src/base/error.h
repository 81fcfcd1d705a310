/* error.h - filling an ace_error. */
#ifndef ACE_BASE_ERROR_H
#define ACE_BASE_ERROR_H

#include <acestep.h>

#include <stdarg.h>

/* Fills `error` (may be NULL) with a status and a printf-style sentence. An error that is already set is kept: the
 * first cause is the one to report. Always returns false, so that a function can `return ace_fail(...)`. */
bool ace_fail(ace_error *error, ace_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message of an error that is set, to say where it happened. Returns false. */
bool ace_fail_in(ace_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The error for memory that could not be had: `bytes` wanted for `what`. Returns false. */
bool ace_fail_memory(ace_error *error, const char *what, size_t bytes);

#endif
