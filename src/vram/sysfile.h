/* sysfile.h - the small files of /sys and /proc. They have no size of their own, may vanish while they are read, and
 * are never an error: what cannot be read is not known. Paths are printf-style. */
#ifndef ACE_VRAM_SYSFILE_H
#define ACE_VRAM_SYSFILE_H

#include <acestep.h>

/* The file's first bytes as a text; blanks and newlines at its end are cut. False, and "", if there is none. */
bool sysfile_text(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A number, decimal or with 0x. False when the file does not hold one. */
bool sysfile_number(uint64_t *number, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last part of a symbolic link's target ("nouveau" of ".../drivers/nouveau"). */
bool sysfile_link(char *name, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

bool sysfile_exists(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The number behind `key` and blanks at the beginning of a line of `text`: "MemTotal:", "inactive_file". */
bool sysfile_find(const char *text, const char *key, uint64_t *number);

#endif
