#include "song/quantization.h"

#include "base/error.h"

#include <string.h>

static const char *const names[] = {
    [ACE_FORM_PLAIN] = "none", [ACE_FORM_INT8] = "int8", [ACE_FORM_INT4] = "int4", [ACE_FORM_BLOCKS] = "keep"};

enum { FORMS = sizeof names / sizeof *names };

bool quantization_parse(const char *name, const char *option, ace_weight_form *form, ace_error *error)
{
    *form = ACE_FORM_PLAIN;
    if (!name) return true;
    for (int i = 0; i < FORMS; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *form = (ace_weight_form)i;
        return true;
    }
    return ace_fail(error, ACE_ERROR_USAGE, "%s cannot be '%.32s': give none, int8, int4 or keep", option, name);
}

const char *quantization_name(ace_weight_form form)
{
    return names[form];
}
