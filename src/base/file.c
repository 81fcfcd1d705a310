#include "base/file.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail_errno(ace_error *error, const char *doing, const char *path)
{
    const char *remedy = errno == ENOSPC || errno == EDQUOT ? "free some space or write somewhere else"
                         : errno == ENOENT                  ? "check the path"
                         : errno == EACCES || errno == EPERM || errno == EROFS
                             ? "check the permissions or choose another place"
                             : "check the path and the disk";
    return ace_fail(error, ACE_ERROR_IO, "cannot %s '%s': %s; %s", doing, path, strerror(errno), remedy);
}

/* Opens for reading and checks that it is a regular file. */
static int open_regular(const char *path, struct stat *info, ace_error *error)
{
    int fd = -1;
    if (ace_fault_hit())
        errno = EIO;
    else
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, info) != 0) {
        fail_errno(error, "open", path);
    } else if (!S_ISREG(info->st_mode)) {
        ace_fail(error, ACE_ERROR_IO, "'%s' is not a regular file: give the path of a file", path);
    } else {
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

bool ace_map_open(ace_map *map, const char *path, ace_error *error)
{
    *map = (ace_map){0};
    struct stat info;
    int fd = open_regular(path, &info, error);
    if (fd < 0) return false;
    void *data = NULL;
    if (info.st_size > 0) {
        data = ace_fault_hit() ? MAP_FAILED : mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) fail_errno(error, "map", path);
    }
    close(fd);
    if (data == MAP_FAILED) return false;
    map->data = data;
    map->size = (size_t)info.st_size;
    map->path = ace_strdup(path, error);
    if (!map->path) ace_map_close(map);
    return map->path != NULL;
}

void ace_map_close(ace_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    free(map->path);
    *map = (ace_map){0};
}

char *ace_read_file(const char *path, size_t limit, size_t *size, ace_error *error)
{
    struct stat info;
    int fd = open_regular(path, &info, error);
    if (fd < 0) return NULL;
    char *data = NULL;
    size_t want = (size_t)info.st_size, have = 0;
    if (want > limit) {
        ace_fail(error, ACE_ERROR_FORMAT,
                 "'%s' has %zu bytes, more than the %zu allowed for such a file: check that it is the right one", path,
                 want, limit);
    } else {
        data = ace_calloc(want + 1, 1, path, error);
    }
    while (data && have < want) {
        ssize_t n = ace_fault_hit() ? (errno = EIO, -1) : read(fd, data + have, want - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n < 0)
                fail_errno(error, "read", path);
            else
                ace_fail(error, ACE_ERROR_IO, "'%s' became shorter while it was read: try again", path);
            free(data);
            data = NULL;
        } else {
            have += (size_t)n;
        }
    }
    close(fd);
    if (data) *size = have;
    return data;
}

bool ace_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool ace_path_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *ace_path_join(const char *directory, const char *name, ace_error *error)
{
    size_t n = strlen(directory);
    ace_text path = {0};
    ace_text_format(&path, "%s%s%s", directory, n > 0 && directory[n - 1] == '/' ? "" : "/", name);
    return ace_text_take(&path, error);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool ace_list_directory(const char *path, ace_names *names, ace_error *error)
{
    *names = (ace_names){0};
    DIR *directory = ace_fault_hit() ? (errno = EIO, NULL) : opendir(path);
    if (!directory) return fail_errno(error, "list", path);
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char **grown = ace_realloc(names->names, names->count + 1, sizeof *grown, "a directory listing", error);
        if (grown) names->names = grown;
        char *name = grown ? ace_strdup(entry->d_name, error) : NULL;
        if (name) names->names[names->count++] = name;
        ok = name != NULL;
    }
    closedir(directory);
    if (!ok)
        ace_names_free(names);
    else if (names->count)
        qsort(names->names, names->count, sizeof *names->names, by_name);
    return ok;
}

void ace_names_free(ace_names *names)
{
    for (size_t i = 0; i < names->count; i++) free(names->names[i]);
    free(names->names);
    *names = (ace_names){0};
}

static bool fail_exists(ace_error *error, const char *path)
{
    return ace_fail(error, ACE_ERROR_IO,
                    "'%s' exists already and is not overwritten: choose another name or pass --force", path);
}

char *ace_path_directory(const char *path, ace_error *error)
{
    const char *slash = strrchr(path, '/');
    ace_text directory = {0};
    if (!slash)
        ace_text_add(&directory, ".");
    else
        ace_text_bytes(&directory, path, slash == path ? 1 : (size_t)(slash - path));
    return ace_text_take(&directory, error);
}

/* Opens a file without a name in a directory: it vanishes with the process until it is linked. -1 where the file system
 * has no such thing. */
static int open_nameless(const char *directory)
{
    /* linkat() reaches such a file through /proc only */
    if (access("/proc/self/fd", X_OK) != 0) return -1;
    return open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* A temporary file in the directory of `path`: nameless if the file system can, else *name is its name. -1 on error. */
static int open_temporary(const char *path, char **name, ace_error *error)
{
    *name = NULL;
    char *directory = ace_path_directory(path, error);
    if (!directory) return -1;
    bool refused = ace_fault_hit();
    int fd = refused ? (errno = EIO, -1) : open_nameless(directory);
    if (fd < 0 && !refused) {
        ace_text pattern = {0};
        ace_text_format(&pattern, "%s/.acestep-XXXXXX", directory);
        *name = ace_text_take(&pattern, error);
        if (*name) fd = mkostemp(*name, O_CLOEXEC);
    }
    if (fd < 0) {
        fail_errno(error, "create a file for", path);
        free(*name);
        *name = NULL;
    }
    free(directory);
    return fd;
}

bool ace_new_file_begin(ace_new_file *file, const char *path, bool replace, ace_error *error)
{
    *file = (ace_new_file){.fd = -1, .replace = replace};
    if (!replace && ace_path_exists(path)) return fail_exists(error, path);
    if (ace_path_is_directory(path))
        return ace_fail(error, ACE_ERROR_IO, "'%s' is a directory: give the name of a file", path);
    file->path = ace_strdup(path, error);
    if (file->path) file->fd = open_temporary(path, &file->temporary, error);
    if (file->fd < 0) {
        ace_new_file_abandon(file);
        return false;
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(file->fd, 0666 & ~mask);
    return true;
}

/* Gives a nameless file a name; -1 with EEXIST when the name is taken. */
static int link_nameless(int fd, const char *name)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

/* A nameless file that is to replace another needs a name for the moment before the rename. */
static bool name_temporary(ace_new_file *file, ace_error *error)
{
    for (unsigned i = 0; i < 1000; i++) {
        ace_text name = {0};
        ace_text_format(&name, "%s.%ld-%u.tmp", file->path, (long)getpid(), i);
        char *temporary = ace_text_take(&name, error);
        if (!temporary) return false;
        if (link_nameless(file->fd, temporary) == 0) {
            file->temporary = temporary;
            return true;
        }
        free(temporary);
        if (errno != EEXIST) break;
    }
    return fail_errno(error, "name the finished file", file->path);
}

/* Some file systems know no RENAME_NOREPLACE; there a hard link refuses an existing name just as atomically. */
static int rename_without_replacing(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return -1;
    if (link(from, to) != 0) return -1;
    return unlink(from);
}

static bool give_name(ace_new_file *file, ace_error *error)
{
    int failed;
    if (file->replace) {
        if (!file->temporary && !name_temporary(file, error)) return false;
        failed = rename(file->temporary, file->path);
    } else if (file->temporary) {
        failed = rename_without_replacing(file->temporary, file->path);
    } else {
        failed = link_nameless(file->fd, file->path);
    }
    if (failed)
        return errno == EEXIST ? fail_exists(error, file->path)
                               : fail_errno(error, "rename the finished file to", file->path);
    free(file->temporary);
    file->temporary = NULL;
    return true;
}

bool ace_new_file_sync(ace_new_file *file, ace_error *error)
{
    if (!file->synced) file->synced = !ace_fault_hit() && fsync(file->fd) == 0;
    return file->synced || fail_errno(error, "finish writing", file->path);
}

bool ace_new_file_commit(ace_new_file *file, ace_error *error)
{
    bool ok = ace_new_file_sync(file, error) && give_name(file, error);
    ace_new_file_abandon(file);
    return ok;
}

void ace_new_file_abandon(ace_new_file *file)
{
    if (file->fd >= 0) close(file->fd);
    if (file->temporary) unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    *file = (ace_new_file){.fd = -1};
}

bool ace_write_all(int fd, const void *bytes, size_t n, const char *path, ace_error *error)
{
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t written = ace_fault_hit() ? (errno = ENOSPC, -1) : write(fd, p, n);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return fail_errno(error, "write", path);
        p += written;
        n -= (size_t)written;
    }
    return true;
}

bool ace_read_at(int fd, void *bytes, size_t n, int64_t offset, const char *path, ace_error *error)
{
    uint8_t *p = bytes;
    while (n > 0) {
        ssize_t got = ace_fault_hit() ? (errno = EIO, -1) : pread(fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(error, "read", path);
        if (got == 0) return ace_fail(error, ACE_ERROR_IO, "'%s' became shorter while it was read: try again", path);
        p += got;
        n -= (size_t)got;
        offset += got;
    }
    return true;
}

int ace_spool_open(const char *path, ace_error *error)
{
    char *name;
    int fd = open_temporary(path, &name, error);
    if (name) unlink(name);
    free(name);
    return fd;
}
