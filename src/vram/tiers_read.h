/* tiers_read.h - from the text of a tier file into a table. Used by tiers.c only. */
#ifndef ACE_VRAM_TIERS_READ_H
#define ACE_VRAM_TIERS_READ_H

#include "vram/tiers.h"

/* Puts the values of the text into *table. Without `name` it is the built-in table: it must be complete, and its values
 * have no place. With a name it is a user's file, which may replace any value but add no tier. */
bool tiers_read(tiers_table *table, const char *text, size_t n, const char *name, ace_error *error);

#endif
