/* A system that fails: every memory and file call of the base room refused in turn, file size limits at every kilobyte,
 * a disk that is really full. Each gives an error in words and leaves no file; run with sanitizers it shows that
 * nothing leaks either. */
#include "audio/audio_level.h"
#include "audio/audio_reader.h"
#include "audio/audio_spool.h"
#include "audio_support.h"

#include "base/memory.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { FRAMES = 20000 };

/* A song's whole way: spool, level, file. */
static bool make_song(const char *path, audio_format format, const float *signal, ace_error *error)
{
    static const audio_level_options level_options = {.normalize = true, .peak_db = -1.0};
    audio_spool spool;
    audio_level level;
    float block[2 * 4000], magnitude;
    bool ok = audio_spool_open(&spool, path, error);
    for (int at = 0; ok && at < FRAMES; at += 4000) ok = audio_spool_append(&spool, signal + 2 * at, 4000, error);
    ok = ok && audio_spool_rank(&spool, FRAMES, &magnitude, error) &&
         audio_level_plan(&level, &level_options, spool.peak, spool.frames, 48000, error);
    audio_writer *writer = NULL;
    if (ok) {
        audio_writer_options options = {
            .format = format, .rate = 48000, .tags = {.title = "t", .software = "acestep", .comment = "{\"seed\": 1}"}};
        writer = audio_writer_open(path, &options, error);
        ok = writer != NULL;
    }
    for (int64_t at = 0; ok && at < FRAMES; at += 4000) {
        ok = audio_spool_read(&spool, at, block, 4000, error);
        if (!ok) break;
        audio_level_apply(&level, at, block, 4000);
        ok = audio_writer_write(writer, block, 4000, error);
    }
    if (ok)
        ok = audio_writer_finish(writer, error);
    else
        audio_writer_abandon(writer);
    audio_spool_close(&spool);
    return ok;
}

static void assert_clean_failure(const char *directory, const ace_error *error)
{
    assert_true(error->status == ACE_ERROR_IO || error->status == ACE_ERROR_MEMORY);
    assert_true(strlen(error->message) > 20);
    assert_int_equal(count_files(directory), 0);
}

static void test_every_call_refused(void **state)
{
    char path[512];
    float *signal = make_signal(FRAMES);
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        path_in(path, *state, "song");
        bool ok = false;
        long calls = 0;
        /* The encoders write often: beyond the first calls every 7th is enough. */
        for (long n = 1; !ok; n += n < 60 ? 1 : 7) {
            ace_error error = {0};
            ace_fault_arm(n);
            ok = make_song(path, f, signal, &error);
            calls = ace_fault_arm(0);
            if (!ok) assert_clean_failure(*state, &error);
            assert_true(n < 100000);
        }
        assert_true(calls > 20);
        assert_int_equal(count_files(*state), 1);
        /* Reading its tags and samples back under the same treatment. */
        ok = false;
        for (long n = 1; !ok; n++) {
            ace_error error = {0};
            audio_tags tags;
            ace_fault_arm(n);
            ok = audio_tags_read(&tags, path, &error);
            ace_fault_arm(0);
            if (!ok) assert_true(error.status == ACE_ERROR_IO || error.status == ACE_ERROR_MEMORY);
            audio_tags_free(&tags);
            assert_true(n < 1000);
        }
        ok = false;
        for (long n = 1; !ok; n++) {
            ace_error error = {0};
            audio_clip clip;
            ace_fault_arm(n);
            ok = audio_read_file(&clip, path, 10.0, &error);
            ace_fault_arm(0);
            if (!ok) assert_int_equal(error.status, ACE_ERROR_MEMORY);
            free(clip.frames);
            assert_true(n < 1000);
        }
        empty_directory(*state);
    }
    free(signal);
}

/* The same with the kernel refusing: EFBIG after a short write, at every limit up to the file's size. */
static void test_file_size_limit(void **state)
{
    char path[512];
    float *signal = make_signal(FRAMES);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    struct sigaction ignore = {.sa_handler = SIG_IGN}, handler;
    sigaction(SIGXFSZ, &ignore, &handler);
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        audio_writer_options options = {.format = f, .rate = 48000, .tags.comment = "{}"};
        path_in(path, *state, "song");
        bool ok = false;
        int failures = 0;
        for (rlim_t limit = 0; !ok; limit += limit < 4096 ? 512 : 4096) {
            struct rlimit small = {.rlim_cur = limit, .rlim_max = before.rlim_max};
            ace_error error = {0};
            setrlimit(RLIMIT_FSIZE, &small);
            ok = write_song(path, &options, signal, FRAMES, 1920, &error);
            setrlimit(RLIMIT_FSIZE, &before);
            if (ok) break;
            failures++;
            assert_clean_failure(*state, &error);
            assert_non_null(strstr(error.message, path));
            assert_true(limit < 1000000);
        }
        assert_true(failures >= 9);
        empty_directory(*state);
    }
    sigaction(SIGXFSZ, &handler, NULL);
    free(signal);
}

/* A file system of 64 KiB. Only root may mount one. */
static void test_full_disk(void **state)
{
    char mount_point[512], path[512];
    path_in(mount_point, *state, "disk");
    assert_int_equal(mkdir(mount_point, 0700), 0);
    if (mount("tmpfs", mount_point, "tmpfs", 0, "size=64k") != 0) {
        rmdir(mount_point);
        print_message("no tmpfs can be mounted here: the full disk is left to the file size limit\n");
        skip();
    }
    size_t n = 480000;
    float *signal = make_signal(n);
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        audio_writer_options options = {.format = f, .rate = 48000};
        ace_error error = {0};
        path_in(path, mount_point, "song");
        assert_fails(write_song(path, &options, signal, n, 1920, &error), error, ACE_ERROR_IO, "free some space");
        assert_int_equal(count_files(mount_point), 0);
    }
    audio_spool spool;
    ace_error error = {0};
    assert_ok(audio_spool_open(&spool, path, &error), error);
    assert_fails(audio_spool_append(&spool, signal, n, &error), error, ACE_ERROR_IO, "free some space");
    assert_int_equal(spool.frames, 0);
    /* What fits is still written and read. */
    float back[200];
    assert_ok(audio_spool_append(&spool, signal, 100, &error), error);
    assert_ok(audio_spool_read(&spool, 0, back, 100, &error), error);
    assert_memory_equal(back, signal, sizeof back);
    audio_spool_close(&spool);
    free(signal);
    assert_int_equal(umount(mount_point), 0);
    rmdir(mount_point);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_refused),
        cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
