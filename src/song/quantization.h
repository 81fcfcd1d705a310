/* quantization.h - the names of the forms in which layers may be stored: "none", "int8", "int4", "keep". */
#ifndef ACE_SONG_QUANTIZATION_H
#define ACE_SONG_QUANTIZATION_H

#include "model/weights.h"

/* The form of a name, NULL being "none". An unknown name is ACE_ERROR_USAGE that names `option`. */
bool quantization_parse(const char *name, const char *option, ace_weight_form *form, ace_error *error);

const char *quantization_name(ace_weight_form form);

#endif
