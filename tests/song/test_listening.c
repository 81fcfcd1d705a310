/* From an audio file to latents and codes: against the official program's "convert audio to codes"
 * (tools/reference/make_listening_goldens.py), within exactly the memory that was planned, and when things go wrong. */
#include "base/clock.h"
#include "base/memory.h"
#include "song/listening.h"
#include "support/place.h"

#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <sndfile.h>
#include <string.h>
#include <unistd.h>

enum { CHANNELS = 64, MAX_CHANNELS = 6 };

/* ---- recordings, the same integers as in the script -------------------------------------------------------------- */

typedef struct recording {
    const char *name;
    int rate, channels;
    int64_t frames;
    int subtype, step; /* of latent frames, every which one is in the goldens */
    int64_t latents;   /* at 25 a second */
} recording;

static const recording recordings[] = {
    {"mono_44100", 44100, 1, 3 * 44100 + 17, SF_FORMAT_PCM_16, 1, 75},
    {"stereo_48000", 48000, 2, 3 * 48000 - 3000, SF_FORMAT_PCM_16, 1, 73},
    {"six_22050", 22050, 6, 2 * 22050 + 1, SF_FORMAT_PCM_24, 1, 50},
    {"loud_96000", 96000, 2, 2 * 96000 + 3001, SF_FORMAT_FLOAT, 1, 50},
    {"one_hop", 48000, 2, 1920, SF_FORMAT_PCM_16, 1, 1},
    {"tiled_8000", 8000, 1, 17 * 8000, SF_FORMAT_PCM_16, 7, 425},
};
enum { RECORDINGS = sizeof recordings / sizeof *recordings };

static double hash_noise(int64_t i, uint32_t seed)
{
    uint32_t h = (uint32_t)i + seed * 0x9E3779B9u;
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 16)) * 0xC2B2AE35u;
    h ^= h >> 16;
    return (double)(h >> 8) / (1 << 23) - 1;
}

static int64_t triangle(int64_t i, int64_t rate, int64_t hertz)
{
    int64_t phase = i * hertz % rate * 65536 / rate;
    return llabs(phase - 32768) / 2 - 8192;
}

static int64_t sample(int64_t i, int64_t rate, int c)
{
    int64_t step = i * 5 / rate, low = 110 + step * 37 % 331, high = 440 + (step * 59 + 13 * c) % 1777;
    double loud = (double)triangle(i, rate, high) * (1 + c % 3);
    return triangle(i, rate, low) + (int64_t)floor(loud / 2) + (int64_t)(hash_noise(i, 3) * 2048);
}

/* Writes `frames` frames of it as `format`, a container and an encoding of libsndfile. */
static void write_recording(const char *path, const recording *r, int64_t frames, int format)
{
    SF_INFO info = {.samplerate = r->rate, .channels = r->channels, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    if (!file) fail_msg("%s: %s", path, sf_strerror(NULL));
    for (int64_t i = 0; i < frames; i++) {
        int whole[MAX_CHANNELS];
        float real[MAX_CHANNELS];
        for (int c = 0; c < r->channels; c++) {
            int64_t value = sample(i, r->rate, c);
            whole[c] = (int)(value * 65536);
            real[c] = (float)((double)value / 16384);
        }
        bool is_float = (format & SF_FORMAT_SUBMASK) == SF_FORMAT_FLOAT;
        assert_int_equal(is_float ? sf_writef_float(file, real, 1) : sf_writef_int(file, whole, 1), 1);
    }
    sf_close(file);
}

static const char *in_place(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", place, name);
    return path;
}

static audio_source *open_source(const char *path, double limit)
{
    ace_error error = {0};
    audio_source *source = audio_source_open(path, limit, NULL, &error);
    if (!source) fail_msg("%s", error.message);
    return source;
}

static audio_source *open_recording(const recording *r)
{
    write_recording(in_place("in.wav"), r, r->frames, SF_FORMAT_WAV | r->subtype);
    return open_source(in_place("in.wav"), 600);
}

/* ---- ears on a device ------------------------------------------------------------------------------------------- */

typedef struct ears {
    ace_checkpoint *checkpoint;
    ace_device *dev;
    atomic_bool stop;
    listening listening;
} ears;

static ears *open_ears(ace_dtype precision, int threads, int64_t window)
{
    ace_error error = {0};
    ears *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->checkpoint = checkpoint_open(&(ace_checkpoint_paths){.model = TINY_CHECKPOINTS "/turbo"}, &error);
    if (!e->checkpoint) fail_msg("%s", error.message);
    e->dev = ace_cpu_open(&(ace_cpu_options){.precision = precision, .threads = threads, .stop = &e->stop}, &error);
    if (!e->dev) fail_msg("%s", error.message);
    listening_init(&e->listening, e->dev, e->checkpoint, window);
    return e;
}

static void close_ears(ears *e)
{
    listening_unload(&e->listening);
    assert_int_equal(ace_device_get_stats(e->dev).weight_bytes, 0);
    assert_int_equal(ace_device_get_stats(e->dev).scratch_bytes, 0);
    ace_device_close(e->dev);
    checkpoint_close(e->checkpoint);
    free(e);
}

/* What was heard, in memory of its own. */
typedef struct heard {
    int64_t frames, count;
    float *latents;
    int32_t *codes;
    int64_t progress; /* as reported last */
} heard;

static heard new_heard(const ears *e, const audio_source *source)
{
    int64_t samples = audio_source_describe(source)->frames;
    heard h = {.frames = listening_latents(e->checkpoint, samples), .count = listening_codes(e->checkpoint, samples)};
    h.latents = calloc((size_t)(h.frames * CHANNELS), sizeof *h.latents);
    h.codes = calloc((size_t)h.count, sizeof *h.codes);
    assert_true(h.latents && h.codes);
    h.progress = -1;
    return h;
}

static void free_heard(heard *h)
{
    free(h->latents);
    free(h->codes);
}

static void follow(void *user, int64_t done, int64_t total)
{
    heard *h = user;
    assert_int_equal(total, h->frames);
    assert_true(h->progress < 0 ? done == 0 : done > h->progress && done <= total);
    h->progress = done;
}

/* Plans, reserves exactly that, listens, and holds the measured bytes and work against the plan. */
static heard hear(ears *e, audio_source *source)
{
    ace_error error = {0};
    heard h = new_heard(e, source);
    listening_needs needs;
    if (!listening_plan(&e->listening, audio_source_describe(source)->frames, true, &needs, &error) ||
        !ace_scratch_reserve(e->dev, needs.scratch, needs.host, &error))
        fail_msg("%s", error.message);
    bool fresh = e->listening.encoder == NULL;
    listening_result result = {.latents = h.latents, .codes = h.codes};
    listening_watch watch = {.user = &h, .progress = follow};
    listening_costs costs;
    if (!listening_run(&e->listening, source, &result, &watch, &costs, &error)) fail_msg("%s", error.message);
    assert_int_equal(h.progress, h.frames);
    assert_int_equal(costs.listen.scratch_bytes, needs.scratch);
    size_t measured = ace_device_get_stats(e->dev).workspace + costs.listen.weight_bytes + costs.listen.scratch_bytes;
    assert_int_equal(measured, needs.total_peak);
    if (!fresh) assert_int_equal(costs.load.bytes_moved, 0);
    assert_true(costs.listen.flops > 0 && costs.listen.flops + costs.load.flops == needs.flops);
    assert_int_equal(ace_device_get_stats(e->dev).scratch_bytes, 0);
    return h;
}

static void assert_same(const heard *a, const heard *b)
{
    assert_int_equal(a->frames, b->frames);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->latents, b->latents, (size_t)(a->frames * CHANNELS) * sizeof *a->latents);
    assert_memory_equal(a->codes, b->codes, (size_t)a->count * sizeof *a->codes);
}

/* ---- the reference ----------------------------------------------------------------------------------------------- */

/* Values of "<name>.<what>"; free(). */
static float *golden(const ace_tensors *goldens, const char *name, const char *what, int64_t count)
{
    char full[64];
    ace_error error = {0};
    snprintf(full, sizeof full, "%s.%s", name, what);
    const ace_tensor *tensor = tensors_find(goldens, full);
    if (!tensor) fail_msg("no golden %s", full);
    assert_int_equal(tensor->count, count);
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    if (!tensor_read(tensor, 0, count, values, &error)) fail_msg("%s", error.message);
    return values;
}

static void compare_latents(const heard *h, const recording *r, const float *theirs, bool f32)
{
    double worst = 0, ab = 0, aa = 0, bb = 0;
    for (int64_t t = 0; t < h->frames; t += r->step)
        for (int c = 0; c < CHANNELS; c++) {
            double a = h->latents[t * CHANNELS + c], b = theirs[t / r->step * CHANNELS + c];
            worst = fmax(worst, fabs(a - b));
            ab += a * b, aa += a * a, bb += b * b;
        }
    double cosine = ab / sqrt(aa * bb);
    print_message("  %-12s latents differ by %.1e, cosine 1 - %.1e\n", r->name, worst, 1 - cosine);
    if (f32 && !(worst <= 1e-5)) fail_msg("%s: latents differ by %.2e", r->name, worst);
    if (!(cosine >= 0.9995)) fail_msg("%s: another sound: cosine %.6f", r->name, cosine);
}

static void compare_with_official(ace_dtype precision)
{
    ace_error error = {0};
    ace_tensors *goldens = tensors_open(TEST_DATA "/song/listening.safetensors", &error);
    if (!goldens) fail_msg("%s", error.message);
    ears *e = open_ears(precision, 2, 0);
    for (int i = 0; i < RECORDINGS; i++) {
        const recording *r = &recordings[i];
        audio_source *source = open_recording(r);
        heard h = hear(e, source);
        assert_int_equal(h.frames, r->latents);
        assert_int_equal(h.count, (r->latents + 4) / 5);
        float *latents = golden(goldens, r->name, "latents", (r->latents + r->step - 1) / r->step * CHANNELS);
        float *codes = golden(goldens, r->name, "codes", h.count);
        compare_latents(&h, r, latents, precision == ACE_F32);
        for (int64_t k = 0; k < h.count; k++) {
            assert_in_range(h.codes[k], 0, 63999);
            if (precision == ACE_F32) assert_int_equal(h.codes[k], (int32_t)codes[k]);
        }
        free(latents);
        free(codes);
        free_heard(&h);
        audio_source_close(source);
    }
    close_ears(e);
    tensors_close(goldens);
}

static void latents_and_codes_are_the_official_ones(void **state)
{
    (void)state;
    compare_with_official(ACE_F32);
}

static void latents_in_bf16_are_near_the_official_ones(void **state)
{
    (void)state;
    compare_with_official(ACE_BF16);
}

/* ---- same bytes -------------------------------------------------------------------------------------------------- */

static void windows_threads_and_repetition_do_not_change_a_byte(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        ace_dtype precision = p ? ACE_BF16 : ACE_F32;
        ears *e = open_ears(precision, 2, 0);
        audio_source *source = open_recording(&recordings[1]);
        heard expected = hear(e, source), again = hear(e, source);
        assert_same(&again, &expected);
        free_heard(&again);
        close_ears(e);
        static const int64_t windows[] = {1, 2, 7, 20, 72, 73, 1000};
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
            e = open_ears(precision, w % 2 ? 2 : 1, windows[w]);
            heard other = hear(e, source);
            assert_same(&other, &expected);
            free_heard(&other);
            close_ears(e);
        }
        free_heard(&expected);
        audio_source_close(source);
    }
}

static void every_file_format_is_heard(void **state)
{
    (void)state;
    static const struct {
        int format;
        bool lossless;
    } kinds[] = {{SF_FORMAT_FLAC | SF_FORMAT_PCM_16, true},          {SF_FORMAT_WAVEX | SF_FORMAT_PCM_24, true},
                 {SF_FORMAT_AIFF | SF_FORMAT_PCM_16, true},          {SF_FORMAT_OGG | SF_FORMAT_VORBIS, false},
                 {SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, false}, {SF_FORMAT_OGG | SF_FORMAT_OPUS, false}};
    const recording *r = &recordings[1];
    ears *e = open_ears(ACE_F32, 2, 30);
    audio_source *source = open_recording(r);
    heard expected = hear(e, source);
    audio_source_close(source);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        write_recording(in_place("in.sound"), r, r->frames, kinds[k].format);
        source = open_source(in_place("in.sound"), 600);
        heard h = hear(e, source);
        if (kinds[k].lossless) assert_same(&h, &expected);
        /* a lossy file is the same music, perhaps with a little more at its ends */
        assert_in_range(h.frames, expected.frames, expected.frames + 2);
        double ab = 0, aa = 0, bb = 0;
        for (int64_t i = 0; i < expected.frames * CHANNELS; i++) {
            double a = h.latents[i], b = expected.latents[i];
            ab += a * b, aa += a * a, bb += b * b;
        }
        print_message("  format %x: cosine %.4f\n", (unsigned)kinds[k].format, ab / sqrt(aa * bb));
        assert_true(ab / sqrt(aa * bb) > 0.9);
        free_heard(&h);
        audio_source_close(source);
    }
    free_heard(&expected);
    close_ears(e);
}

/* ---- length ------------------------------------------------------------------------------------------------------ */

/* Less than a latent frame is heard as if zeros followed. */
static void a_very_short_recording_is_one_code(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 2, 700, 1919};
    ears *e = open_ears(ACE_F32, 1, 0);
    for (int k = 0; k < 4; k++) {
        SF_INFO info = {.samplerate = 48000, .channels = 2, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
        float frames[1920 * 2] = {0};
        for (int64_t i = 0; i < lengths[k]; i++) frames[2 * i] = frames[2 * i + 1] = 0.5f - (float)(i % 7) / 10;
        heard h[2];
        for (int padded = 0; padded < 2; padded++) {
            SNDFILE *file = sf_open(in_place("short.wav"), SFM_WRITE, &info);
            int64_t n = padded ? 1920 : lengths[k];
            assert_int_equal(sf_writef_float(file, frames, n), n);
            sf_close(file);
            audio_source *source = open_source(in_place("short.wav"), 600);
            h[padded] = hear(e, source);
            assert_int_equal(h[padded].frames, 1);
            assert_int_equal(h[padded].count, 1);
            audio_source_close(source);
        }
        assert_same(&h[0], &h[1]);
        free_heard(&h[0]);
        free_heard(&h[1]);
    }
    close_ears(e);
}

static void scratch_grows_by_the_latents_only(void **state)
{
    (void)state;
    ace_error error = {0};
    ears *e = open_ears(ACE_F32, 2, 50);
    listening_needs minute, hour, latents;
    assert_true(listening_plan(&e->listening, 60 * 48000, true, &minute, &error));
    assert_true(listening_plan(&e->listening, 3600 * 48000, true, &hour, &error));
    assert_int_equal(hour.scratch - minute.scratch, (3600 - 60) * 25 * CHANNELS * sizeof(float));
    assert_true(hour.flops > 59 * minute.flops && hour.flops < 61 * minute.flops);
    assert_true(listening_plan(&e->listening, 60 * 48000, false, &latents, &error));
    assert_true(latents.total_peak < minute.total_peak && latents.flops < minute.flops);
    listening_needs none;
    assert_false(listening_plan(&e->listening, 0, true, &none, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    close_ears(e);
}

/* An hour of sound, of which half a minute is heard; the heap sees nothing of the rest. */
static void of_an_hour_as_much_is_heard_as_was_asked_for(void **state)
{
    (void)state;
    const recording hour = {"hour", 8000, 1, 3600 * 8000, SF_FORMAT_PCM_S8, 1, 90000};
    write_recording(in_place("hour.wav"), &hour, 40 * 8000, SF_FORMAT_AIFF | SF_FORMAT_PCM_S8);
    write_recording(in_place("half.wav"), &hour, 30 * 8000, SF_FORMAT_AIFF | SF_FORMAT_PCM_S8);
    /* the header's lengths (FORM, COMM's frames, SSND), big-endian, and a hole for what they promise */
    FILE *file = fopen(in_place("hour.wav"), "r+");
    assert_non_null(file);
    unsigned char header[128];
    assert_int_equal(fread(header, 1, sizeof header, file), sizeof header);
    for (size_t i = 0; i + 4 <= sizeof header; i++) {
        uint32_t value = (uint32_t)header[i] << 24 | (uint32_t)header[i + 1] << 16 | (uint32_t)header[i + 2] << 8 |
                         (uint32_t)header[i + 3];
        if (value < 40 * 8000 || value > 40 * 8000 + 200) continue;
        value += (3600 - 40) * 8000;
        const unsigned char bytes[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16),
                                        (unsigned char)(value >> 8), (unsigned char)value};
        fseek(file, (long)i, SEEK_SET);
        assert_int_equal(fwrite(bytes, 1, 4, file), 4);
        i += 3;
    }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fclose(file);
    assert_int_equal(truncate(in_place("hour.wav"), size + (3600 - 40) * 8000), 0);

    ears *e = open_ears(ACE_F32, 2, 100);
    audio_source *source = open_source(in_place("hour.wav"), 30);
    const audio_source_info *info = audio_source_describe(source);
    assert_true(info->truncated);
    assert_true(info->claimed == 3600);
    assert_int_equal(info->frames, 30 * 48000);
    heard first = hear(e, source); /* loads the weights */
    free_heard(&first);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    heard part = hear(e, source);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_true(after - before < 30 * 25 * CHANNELS * sizeof(float) + 50000); /* what was heard, and no more */
    assert_int_equal(part.count, 150);
    audio_source_close(source);

    /* all but the last frames, which hear what follows, are those of the half minute alone */
    source = open_source(in_place("half.wav"), 600);
    assert_false(audio_source_describe(source)->truncated);
    heard half = hear(e, source);
    assert_int_equal(half.frames, part.frames);
    assert_memory_equal(half.latents, part.latents, (size_t)((half.frames - 8) * CHANNELS) * sizeof *half.latents);
    audio_source_close(source);
    free_heard(&part);
    free_heard(&half);
    close_ears(e);
}

/* ---- silence ----------------------------------------------------------------------------------------------------- */

static void silence_is_an_error_or_the_silence_latent(void **state)
{
    (void)state;
    ace_error error = {0};
    SF_INFO info = {.samplerate = 48000, .channels = 2, .format = SF_FORMAT_WAV | SF_FORMAT_PCM_16};
    SNDFILE *file = sf_open(in_place("silent.wav"), SFM_WRITE, &info);
    const short zeros[2 * 48000] = {0};
    assert_int_equal(sf_writef_short(file, zeros, 48000), 48000);
    sf_close(file);
    ears *e = open_ears(ACE_F32, 1, 0);
    audio_source *source = open_source(in_place("silent.wav"), 600);
    heard h = new_heard(e, source);
    listening_result result = {.latents = h.latents, .codes = h.codes};
    assert_false(listening_run(&e->listening, source, &result, NULL, NULL, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    assert_non_null(strstr(error.message, "silent.wav' is silent"));

    listening_needs needs;
    error = (ace_error){0};
    assert_true(listening_plan(&e->listening, 48000, true, &needs, &error));
    assert_true(ace_scratch_reserve(e->dev, needs.scratch, needs.host, &error));
    result.silence_allowed = true;
    if (!listening_run(&e->listening, source, &result, NULL, NULL, &error)) fail_msg("%s", error.message);
    float *silence = malloc(25 * CHANNELS * sizeof *silence);
    assert_true(checkpoint_silence(e->checkpoint, 0, 25, silence, &error));
    assert_memory_equal(h.latents, silence, 25 * CHANNELS * sizeof *silence);
    for (int i = 0; i < 5; i++) assert_in_range(h.codes[i], 0, 63999);
    free(silence);
    free_heard(&h);
    audio_source_close(source);
    close_ears(e);
}

/* ---- when things go wrong ---------------------------------------------------------------------------------------- */

/* The whole way as the program goes it. */
static bool whole_journey(ears *e, ace_error *error)
{
    audio_source *source = audio_source_open(in_place("in.wav"), 600, &e->stop, error);
    if (!source) return false;
    heard h = new_heard(e, source);
    listening_result result = {.latents = h.latents, .codes = h.codes};
    listening_needs needs;
    bool ok = listening_plan(&e->listening, audio_source_describe(source)->frames, true, &needs, error) &&
              ace_scratch_reserve(e->dev, needs.scratch, needs.host, error) &&
              listening_run(&e->listening, source, &result, NULL, NULL, error);
    free_heard(&h);
    audio_source_close(source);
    return ok;
}

static void every_refusal_of_the_system_is_an_error(void **state)
{
    (void)state;
    ace_error error = {0};
    write_recording(in_place("in.wav"), &recordings[0], 44100, SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    ears *e = open_ears(ACE_F32, 2, 10);
    ace_fault_arm(0);
    if (!whole_journey(e, &error)) fail_msg("%s", error.message);
    long calls = ace_fault_arm(0);
    print_message("  %ld calls\n", calls);
    for (long n = 1; n <= calls; n++) {
        error = (ace_error){0};
        listening_unload(&e->listening);
        ace_fault_arm(n);
        bool ok = whole_journey(e, &error);
        ace_fault_arm(0);
        if (ok) fail_msg("fault %ld of %ld went unnoticed", n, calls);
        assert_int_not_equal(error.status, ACE_OK);
        assert_true(error.message[0] != '\0');
        assert_int_equal(ace_device_get_stats(e->dev).scratch_bytes, 0);
    }
    error = (ace_error){0};
    if (!whole_journey(e, &error)) fail_msg("%s", error.message);
    close_ears(e);
}

static void a_damaged_or_vanished_file_is_an_error_and_the_ears_work_on(void **state)
{
    (void)state;
    ace_error error = {0};
    ears *e = open_ears(ACE_F32, 2, 10);
    write_recording(in_place("in.wav"), &recordings[1], 100000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16);
    assert_true(whole_journey(e, &error));

    /* it vanishes between being opened and being heard */
    audio_source *source = open_source(in_place("in.wav"), 600);
    heard h = new_heard(e, source);
    listening_result result = {.latents = h.latents, .codes = h.codes};
    unlink(in_place("in.wav"));
    assert_false(listening_run(&e->listening, source, &result, NULL, NULL, &error));
    assert_int_equal(error.status, ACE_ERROR_IO);
    assert_null(e->listening.encoder);
    free_heard(&h);
    audio_source_close(source);

    /* it is cut while it is heard */
    write_recording(in_place("in.wav"), &recordings[1], 100000, SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    source = open_source(in_place("in.wav"), 600);
    h = new_heard(e, source);
    result = (listening_result){.codes = h.codes};
    assert_int_equal(truncate(in_place("in.wav"), 44 + 4 * 60000), 0);
    error = (ace_error){0};
    assert_false(listening_run(&e->listening, source, &result, NULL, NULL, &error));
    assert_int_equal(error.status, ACE_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "was changed"));
    free_heard(&h);
    audio_source_close(source);

    /* bytes in the middle of it are wrong */
    write_recording(in_place("in.wav"), &recordings[1], 100000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16);
    FILE *file = fopen(in_place("in.wav"), "r+");
    fseek(file, 0, SEEK_END);
    long middle = ftell(file) / 2;
    for (long at = middle; at < middle + 3000; at++) {
        fseek(file, at, SEEK_SET);
        fputc((int)(at * 37 % 251), file);
    }
    fclose(file);
    error = (ace_error){0};
    assert_false(whole_journey(e, &error));
    assert_int_equal(error.status, ACE_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "damaged"));

    write_recording(in_place("in.wav"), &recordings[1], 100000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16);
    error = (ace_error){0};
    if (!whole_journey(e, &error)) fail_msg("%s", error.message);
    close_ears(e);
}

/* A scratch that is smaller than planned is never exceeded. */
static void less_scratch_than_planned_is_an_error(void **state)
{
    (void)state;
    ace_error error = {0};
    ears *e = open_ears(ACE_F32, 1, 20);
    audio_source *source = open_recording(&recordings[1]);
    listening_needs needs;
    heard h = new_heard(e, source);
    listening_result result = {.latents = h.latents, .codes = h.codes};
    assert_true(listening_plan(&e->listening, audio_source_describe(source)->frames, true, &needs, &error));
    assert_true(ace_scratch_reserve(e->dev, needs.scratch - 64, needs.host, &error));
    assert_false(listening_run(&e->listening, source, &result, NULL, NULL, &error));
    assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    free_heard(&h);
    audio_source_close(source);
    close_ears(e);
}

static void a_vae_for_other_audio_is_refused(void **state)
{
    (void)state;
    ace_error error = {0};
    ears *e = open_ears(ACE_F32, 1, 20);
    audio_source *source = open_recording(&recordings[4]);
    heard h = new_heard(e, source);
    listening_result result = {.codes = h.codes};
    e->checkpoint->vae.sample_rate = 44100;
    assert_false(listening_run(&e->listening, source, &result, NULL, NULL, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
    assert_non_null(strstr(error.message, "44100"));
    free_heard(&h);
    audio_source_close(source);
    close_ears(e);
}

/* ---- stopping ---------------------------------------------------------------------------------------------------- */

typedef struct stopper {
    ears *ears;
    double when;
} stopper;

static void *stop_soon(void *user)
{
    stopper *s = user;
    usleep(300000);
    s->when = ace_clock();
    atomic_store(&s->ears->stop, true);
    return NULL;
}

static void stop_now(void *user, int64_t done, int64_t total)
{
    stopper *s = user;
    if (done * 2 < total) return;
    s->when = ace_clock();
    atomic_store(&s->ears->stop, true);
}

static void a_stop_is_heard_within_a_second(void **state)
{
    (void)state;
    ears *e = open_ears(ACE_F32, 2, 0);
    const recording minutes = {"minutes", 48000, 1, 0, SF_FORMAT_PCM_16, 1, 0};
    write_recording(in_place("in.wav"), &minutes, 120 * 48000, SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    audio_source *source = open_source(in_place("in.wav"), 600);
    heard h = new_heard(e, source);
    listening_result result = {.latents = h.latents, .codes = h.codes};
    for (int by_thread = 0; by_thread < 2; by_thread++) {
        ace_error error = {0};
        listening_needs needs;
        pthread_t thread;
        stopper s = {.ears = e};
        listening_watch watch = {.user = &s, .progress = by_thread ? NULL : stop_now};
        assert_true(listening_plan(&e->listening, audio_source_describe(source)->frames, true, &needs, &error));
        assert_true(ace_scratch_reserve(e->dev, needs.scratch, needs.host, &error));
        if (by_thread) assert_int_equal(pthread_create(&thread, NULL, stop_soon, &s), 0);
        assert_false(listening_run(&e->listening, source, &result, &watch, NULL, &error));
        double now = ace_clock();
        if (by_thread) pthread_join(thread, NULL);
        print_message("  stopped after %.3f s\n", now - s.when);
        assert_int_equal(error.status, ACE_CANCELLED);
        assert_true(now - s.when < 1);
        assert_null(e->listening.encoder);
        atomic_store(&e->stop, false);
    }
    free_heard(&h);
    audio_source_close(source);
    source = open_recording(&recordings[1]);
    h = hear(e, source);
    free_heard(&h);
    audio_source_close(source);
    close_ears(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_and_codes_are_the_official_ones),
        cmocka_unit_test(latents_in_bf16_are_near_the_official_ones),
        cmocka_unit_test(windows_threads_and_repetition_do_not_change_a_byte),
        cmocka_unit_test(every_file_format_is_heard),
        cmocka_unit_test(a_very_short_recording_is_one_code),
        cmocka_unit_test(scratch_grows_by_the_latents_only),
        cmocka_unit_test(of_an_hour_as_much_is_heard_as_was_asked_for),
        cmocka_unit_test(silence_is_an_error_or_the_silence_latent),
        cmocka_unit_test(every_refusal_of_the_system_is_an_error),
        cmocka_unit_test(a_damaged_or_vanished_file_is_an_error_and_the_ears_work_on),
        cmocka_unit_test(less_scratch_than_planned_is_an_error),
        cmocka_unit_test(a_vae_for_other_audio_is_refused),
        cmocka_unit_test(a_stop_is_heard_within_a_second),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
