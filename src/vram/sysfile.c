#include "vram/sysfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 1024 };

static bool path_of(char path[PATH_SIZE], const char *format, va_list arguments)
{
    int n = vsnprintf(path, PATH_SIZE, format, arguments);
    return n > 0 && n < PATH_SIZE;
}

static bool read_text(const char *path, char *text, size_t size)
{
    size_t have = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd >= 0 && have + 1 < size) {
        ssize_t n = read(fd, text + have, size - 1 - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        have += (size_t)n;
    }
    if (fd >= 0) close(fd);
    while (have && strchr(" \t\r\n", text[have - 1])) have--;
    text[have] = '\0';
    return fd >= 0;
}

bool sysfile_text(char *text, size_t size, const char *format, ...)
{
    char path[PATH_SIZE];
    va_list arguments;
    va_start(arguments, format);
    bool ok = path_of(path, format, arguments);
    va_end(arguments);
    text[0] = '\0';
    return ok && read_text(path, text, size);
}

/* strtoull without its tolerance for signs and blanks. */
static bool parse(const char *text, uint64_t *number, char **end)
{
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long value = strtoull(text, end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
    if (errno) return false;
    *number = value;
    return true;
}

bool sysfile_number(uint64_t *number, const char *format, ...)
{
    char path[PATH_SIZE], text[64], *end = NULL;
    va_list arguments;
    va_start(arguments, format);
    bool ok = path_of(path, format, arguments);
    va_end(arguments);
    return ok && read_text(path, text, sizeof text) && parse(text, number, &end) && *end == '\0';
}

bool sysfile_link(char *name, size_t size, const char *format, ...)
{
    char path[PATH_SIZE], target[PATH_SIZE];
    va_list arguments;
    va_start(arguments, format);
    bool ok = path_of(path, format, arguments);
    va_end(arguments);
    ssize_t n = ok ? readlink(path, target, sizeof target - 1) : -1;
    target[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(name, size, "%s", slash ? slash + 1 : target);
    return name[0] != '\0';
}

bool sysfile_exists(const char *format, ...)
{
    char path[PATH_SIZE];
    va_list arguments;
    va_start(arguments, format);
    bool ok = path_of(path, format, arguments);
    va_end(arguments);
    return ok && access(path, F_OK) == 0;
}

bool sysfile_find(const char *text, const char *key, uint64_t *number)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL) {
        char *end;
        if (strncmp(line, key, n) == 0 && (line[n] == ' ' || line[n] == '\t'))
            return parse(line + n + strspn(line + n, " \t"), number, &end);
    }
    return false;
}
