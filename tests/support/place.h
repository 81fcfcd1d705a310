/* place.h - a temporary directory for the tests of one program. */
#ifndef TESTS_SUPPORT_PLACE_H
#define TESTS_SUPPORT_PLACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>

static char place[64];

/* Group set-up and tear-down. */
static inline int make_place(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "/tmp/acestep-test-XXXXXX");
    return mkdtemp(place) ? 0 : -1;
}

static inline int remove_place(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", place);
    return system(command);
}

static inline size_t files_in_place(void)
{
    ace_names names;
    ace_error error = {0};
    assert_true(ace_list_directory(place, &names, &error));
    size_t count = names.count;
    ace_names_free(&names);
    return count;
}

#endif
