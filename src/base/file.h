/* file.h - reading whole files, mapping large ones, and writing so that nothing is ever half written or overwritten. */
#ifndef ACE_BASE_FILE_H
#define ACE_BASE_FILE_H

#include <acestep.h>

/* A file mapped read-only. `data` may be NULL for an empty file. The mapping survives the file's removal. */
typedef struct ace_map {
    char *path;
    const uint8_t *data;
    size_t size;
} ace_map;

bool ace_map_open(ace_map *map, const char *path, ace_error *error);
void ace_map_close(ace_map *map);

/* The whole file, NUL-terminated behind its `*size` bytes; refuses files over `limit` bytes. Caller frees. */
char *ace_read_file(const char *path, size_t limit, size_t *size, ace_error *error);

bool ace_path_exists(const char *path);
bool ace_path_is_directory(const char *path);

/* "a/b" from "a" and "b"; caller frees. */
char *ace_path_join(const char *directory, const char *name, ace_error *error);

/* The directory part of a path, "." if it has none; caller frees. */
char *ace_path_directory(const char *path, ace_error *error);

/* The names in a directory, sorted bytewise, "." and ".." left out. Free with ace_names_free(). */
typedef struct ace_names {
    char **names;
    size_t count;
} ace_names;

bool ace_list_directory(const char *path, ace_names *names, ace_error *error);
void ace_names_free(ace_names *names);

/* A file that appears under its final name only when it is complete. Until then it has no name at all and vanishes with
 * the process, even a killed one (or, where the file system cannot do that, a temporary name beside the final one,
 * which abandon() removes). commit() syncs and names it. Unless `replace` is set an existing file of that name is an
 * error, at begin and again, atomically, at commit. abandon() is safe after commit. */
typedef struct ace_new_file {
    char *path;
    char *temporary; /* NULL while nameless */
    int fd;          /* -1 when closed */
    bool replace, synced;
} ace_new_file;

bool ace_new_file_begin(ace_new_file *file, const char *path, bool replace, ace_error *error);
/* Everything written reaches the disk; nothing may be written afterwards. commit() does it if it was not done. */
bool ace_new_file_sync(ace_new_file *file, ace_error *error);
bool ace_new_file_commit(ace_new_file *file, ace_error *error);
void ace_new_file_abandon(ace_new_file *file);

/* Writes all bytes to fd. `path` is for the error message only; a full disk is named as such. */
bool ace_write_all(int fd, const void *bytes, size_t n, const char *path, ace_error *error);

/* Reads exactly n bytes at `offset`; a file that ends before is an error. `path` is for the error message only. */
bool ace_read_at(int fd, void *bytes, size_t n, int64_t offset, const char *path, ace_error *error);

/* A nameless temporary file in the directory of `path` (it vanishes with the process); returns an fd, -1 on error. */
int ace_spool_open(const char *path, ace_error *error);

#endif
