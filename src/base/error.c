#include "base/error.h"

#include <stdio.h>
#include <string.h>

bool ace_fail(ace_error *error, ace_status status, const char *format, ...)
{
    if (!error || error->status != ACE_OK) return false;
    error->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return false;
}

bool ace_fail_in(ace_error *error, const char *format, ...)
{
    if (!error || error->status == ACE_OK) return false;
    char prefix[512], whole[sizeof error->message];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    int n = snprintf(whole, sizeof whole, "%s: ", prefix);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used < sizeof whole)
        snprintf(whole + used, sizeof whole - used, "%.*s", (int)(sizeof whole - used - 1), error->message);
    memcpy(error->message, whole, sizeof whole);
    return false;
}

bool ace_fail_memory(ace_error *error, const char *what, size_t bytes)
{
    return ace_fail(error, ACE_ERROR_MEMORY,
                    "not enough memory for %s (%.1f MiB): close other programs or ask for a shorter song", what,
                    (double)bytes / 1048576.0);
}
