#include "base/file.h"
#include "base/memory.h"
#include "support/place.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char *in_directory(const char *name)
{
    ace_error error = {0};
    char *path = ace_path_join(place, name, &error);
    assert_non_null(path);
    return path;
}

static void write_file(const char *path, const char *text, bool replace)
{
    ace_new_file file;
    ace_error error = {0};
    assert_true(ace_new_file_begin(&file, path, replace, &error));
    assert_true(ace_write_all(file.fd, text, strlen(text), path, &error));
    assert_true(ace_new_file_commit(&file, &error));
}

static void assert_content(const char *path, const char *text)
{
    size_t size;
    ace_error error = {0};
    char *data = ace_read_file(path, 1000, &size, &error);
    assert_non_null(data);
    assert_string_equal(data, text);
    assert_int_equal(size, strlen(text));
    free(data);
}

static void a_file_appears_complete_or_not_at_all(void **state)
{
    (void)state;
    char *path = in_directory("song");
    ace_new_file file;
    ace_error error = {0};
    assert_true(ace_new_file_begin(&file, path, false, &error));
    assert_true(ace_write_all(file.fd, "half", 4, path, &error));
    assert_false(ace_path_exists(path));
    ace_new_file_abandon(&file);
    ace_new_file_abandon(&file);
    assert_int_equal(files_in_place(), 0);
    write_file(path, "whole", false);
    assert_content(path, "whole");
    assert_int_equal(files_in_place(), 1);
    unlink(path);
    free(path);
}

static void an_existing_file_is_never_overwritten_unasked(void **state)
{
    (void)state;
    char *path = in_directory("mine");
    write_file(path, "old", false);
    ace_new_file file;
    ace_error error = {0};
    assert_false(ace_new_file_begin(&file, path, false, &error));
    assert_int_equal(error.status, ACE_ERROR_IO);
    assert_non_null(strstr(error.message, "--force"));
    write_file(path, "new", true);
    assert_content(path, "new");
    unlink(path);

    /* another program creates the file while ours is being written */
    error = (ace_error){0};
    assert_true(ace_new_file_begin(&file, path, false, &error));
    write_file(path, "theirs", false);
    assert_false(ace_new_file_commit(&file, &error));
    assert_content(path, "theirs");
    assert_int_equal(files_in_place(), 1);
    unlink(path);
    free(path);
}

static void new_files_have_the_usual_permissions(void **state)
{
    (void)state;
    char *path = in_directory("mode");
    mode_t before = umask(027);
    write_file(path, "x", false);
    umask(before);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    unlink(path);
    free(path);
}

static void every_injected_fault_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    char *path = in_directory("fault");
    bool done = false;
    for (long n = 1; !done; n++) {
        ace_error error = {0};
        ace_new_file file;
        ace_fault_arm(n);
        done = ace_new_file_begin(&file, path, false, &error) && ace_write_all(file.fd, "x", 1, path, &error) &&
               ace_new_file_commit(&file, &error);
        ace_fault_arm(0);
        ace_new_file_abandon(&file);
        if (!done) {
            assert_int_not_equal(error.status, ACE_OK);
            assert_int_equal(files_in_place(), 0);
        }
        assert_in_range(n, 1, 100);
    }
    assert_content(path, "x");
    unlink(path);
    free(path);
}

static void missing_and_odd_files_are_named(void **state)
{
    (void)state;
    ace_map map;
    ace_error error = {0};
    assert_false(ace_map_open(&map, "/nonexistent/file", &error));
    assert_int_equal(error.status, ACE_ERROR_IO);
    assert_non_null(strstr(error.message, "/nonexistent/file"));
    error = (ace_error){0};
    assert_false(ace_map_open(&map, place, &error));
    assert_non_null(strstr(error.message, "not a regular file"));
    error = (ace_error){0};
    ace_new_file file;
    assert_false(ace_new_file_begin(&file, place, true, &error));
    assert_non_null(strstr(error.message, "is a directory"));
    error = (ace_error){0};
    assert_false(ace_new_file_begin(&file, "/nonexistent/place/song", false, &error));
    assert_int_equal(error.status, ACE_ERROR_IO);
}

static void a_spool_leaves_no_name(void **state)
{
    (void)state;
    char *path = in_directory("song");
    ace_error error = {0};
    int fd = ace_spool_open(path, &error);
    assert_true(fd >= 0);
    assert_int_equal(files_in_place(), 0);
    close(fd);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_appears_complete_or_not_at_all),
        cmocka_unit_test(an_existing_file_is_never_overwritten_unasked),
        cmocka_unit_test(new_files_have_the_usual_permissions),
        cmocka_unit_test(every_injected_fault_is_an_error_and_leaves_nothing),
        cmocka_unit_test(missing_and_odd_files_are_named),
        cmocka_unit_test(a_spool_leaves_no_name),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
