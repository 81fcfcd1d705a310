/* acestep.h - the public interface of libacestep: songs from captions with ACE-Step 1.5 checkpoints.
 *
 * The journey: open an engine on a checkpoint, fill in a request, generate. Every function that can fail returns
 * false or NULL and fills an ace_error with a status and one sentence: what is wrong, where, and what to do.
 *
 * Threads: one engine serves one call at a time. Different engines are independent. Nothing here is global. */
#ifndef ACESTEP_H
#define ACESTEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ------------------------------------------------------------------------------------------------ */

/* The values are also the exit codes of the `acestep` program. */
typedef enum ace_status {
    ACE_OK = 0,
    ACE_ERROR_USAGE = 2,     /* the request or an option is invalid */
    ACE_ERROR_IO = 3,        /* a file cannot be found, read or written */
    ACE_ERROR_FORMAT = 4,    /* a file is damaged or not what it claims to be */
    ACE_ERROR_MODEL = 5,     /* a checkpoint is incomplete, contradicts itself, or cannot do what is asked */
    ACE_ERROR_MEMORY = 6,    /* not enough memory */
    ACE_ERROR_NUMERIC = 7,   /* the model produced NaN, infinity or nothing: noise is never presented as music */
    ACE_ERROR_DEVICE = 8,    /* a compute device failed or is missing */
    ACE_ERROR_INTERNAL = 70, /* a bug in this program */
    ACE_CANCELLED = 130      /* the caller asked to stop */
} ace_status;

typedef struct ace_error {
    ace_status status;
    char message[1024]; /* UTF-8, one sentence, never empty when status is not ACE_OK */
} ace_error;

#ifdef __cplusplus
}
#endif

#endif
