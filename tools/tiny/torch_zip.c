/* torch_zip.c - silence_latent.pt, as torch.save() writes it: a zip file without compression whose data.pkl rebuilds
 * one float32 tensor from the storage "data/0" (dit.md 1.5).
 *
 * Like torch's own files, entries are written as a stream: the local header holds no sizes (flag bit 3), they follow in
 * a data descriptor and stand in the central directory; and the local extra field pads the data to a multiple of 64. */
#include "tiny.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>

static const char TOP[] = "silence_latent/";

/* Silence is nearly stationary: a level for each channel, a transient in the first frames, a little noise. */
float tiny_silence(int channel, int frame)
{
    uint64_t index = (uint64_t)channel * TINY_SILENCE_FRAMES + (uint64_t)frame;
    double level = 0.6 * tiny_noise("silence_latent.level", (uint64_t)channel);
    double transient = frame < 4 ? 0.5 / (1 + frame) * tiny_noise("silence_latent.transient", (uint64_t)channel) : 0;
    return (float)(level + transient + 0.05 * tiny_noise("silence_latent", index));
}

/* CRC-32 as in zip (reflected polynomial 0xedb88320), bit by bit: the file is small. */
static uint32_t crc32(const char *bytes, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint8_t)bytes[i];
        for (int b = 0; b < 8; b++) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

static void put(ace_text *out, int bytes, uint64_t value)
{
    char little[8];
    for (int b = 0; b < bytes; b++) little[b] = (char)(uint8_t)(value >> (8 * b));
    ace_text_bytes(out, little, (size_t)bytes);
}

/* The zip file as it grows, and its central directory. */
typedef struct archive {
    ace_text file, directory;
    unsigned entries;
} archive;

enum { LOCAL_HEADER = 30, ALIGNMENT = 64, STREAMED_UTF8 = 0x0808 };

static void add_entry(archive *zip, const char *name, const char *bytes, size_t n)
{
    char path[64];
    int length = snprintf(path, sizeof path, "%s%s", TOP, name);
    uint32_t crc = crc32(bytes, n);
    size_t offset = zip->file.length, data = offset + LOCAL_HEADER + (size_t)length + 4;
    size_t padding = (ALIGNMENT - data % ALIGNMENT) % ALIGNMENT;

    put(&zip->file, 4, 0x04034b50u);
    put(&zip->file, 2, 0);             /* version needed */
    put(&zip->file, 2, STREAMED_UTF8); /* flags */
    put(&zip->file, 2, 0);             /* method: stored */
    put(&zip->file, 4, 0);             /* time, date */
    put(&zip->file, 4, 0);             /* crc and sizes: in the descriptor behind the data */
    put(&zip->file, 8, 0);
    put(&zip->file, 2, (uint64_t)length);
    put(&zip->file, 2, 4 + padding);
    ace_text_bytes(&zip->file, path, (size_t)length);
    ace_text_bytes(&zip->file, "FB", 2);
    put(&zip->file, 2, padding);
    for (size_t i = 0; i < padding; i++) ace_text_bytes(&zip->file, "Z", 1);
    ace_text_bytes(&zip->file, bytes, n);
    put(&zip->file, 4, 0x08074b50u);
    put(&zip->file, 4, crc);
    put(&zip->file, 4, n);
    put(&zip->file, 4, n);

    put(&zip->directory, 4, 0x02014b50u);
    put(&zip->directory, 4, 0); /* versions */
    put(&zip->directory, 2, STREAMED_UTF8);
    put(&zip->directory, 2, 0);
    put(&zip->directory, 4, 0);
    put(&zip->directory, 4, crc);
    put(&zip->directory, 4, n);
    put(&zip->directory, 4, n);
    put(&zip->directory, 2, (uint64_t)length);
    put(&zip->directory, 8, 0); /* extra and comment lengths, disk, internal attributes */
    put(&zip->directory, 4, 0); /* external attributes */
    put(&zip->directory, 4, offset);
    ace_text_bytes(&zip->directory, path, (size_t)length);
    zip->entries++;
}

static void finish(archive *zip)
{
    size_t offset = zip->file.length, size = zip->directory.length;
    if (zip->directory.data != NULL) ace_text_bytes(&zip->file, zip->directory.data, size);
    zip->file.failed |= zip->directory.failed;

    size_t zip64 = zip->file.length;
    put(&zip->file, 4, 0x06064b50u); /* zip64 end record: torch writes it whether needed or not */
    put(&zip->file, 8, 44);
    put(&zip->file, 4, 0x002d031eu); /* versions */
    put(&zip->file, 8, 0);           /* disks */
    put(&zip->file, 8, zip->entries);
    put(&zip->file, 8, zip->entries);
    put(&zip->file, 8, size);
    put(&zip->file, 8, offset);
    put(&zip->file, 4, 0x07064b50u); /* its locator */
    put(&zip->file, 4, 0);
    put(&zip->file, 8, zip64);
    put(&zip->file, 4, 1);
    put(&zip->file, 4, 0x06054b50u); /* end record */
    put(&zip->file, 4, 0);
    put(&zip->file, 2, zip->entries);
    put(&zip->file, 2, zip->entries);
    put(&zip->file, 4, size);
    put(&zip->file, 4, offset);
    put(&zip->file, 2, 0);
    ace_text_free(&zip->directory);
}

static void pickle_string(ace_text *out, const char *string)
{
    ace_text_add(out, "X"); /* BINUNICODE */
    put(out, 4, strlen(string));
    ace_text_add(out, string);
}

static void pickle_int(ace_text *out, uint32_t value)
{
    ace_text_add(out, "J"); /* BININT */
    put(out, 4, value);
}

/* Pickle protocol 2 of torch._utils._rebuild_tensor_v2(storage, 0, (1, 64, frames), strides, False, OrderedDict()). */
static void pickle_tensor(ace_text *out)
{
    const uint32_t channels = TINY_LATENT_CHANNELS, frames = TINY_SILENCE_FRAMES;
    ace_text_add(out, "\x80\x02");                             /* PROTO 2 */
    ace_text_add(out, "ctorch._utils\n_rebuild_tensor_v2\n("); /* GLOBAL, MARK */
    ace_text_add(out, "(");                                    /* the persistent id of the storage */
    pickle_string(out, "storage");
    ace_text_add(out, "ctorch\nFloatStorage\n");
    pickle_string(out, "0");
    pickle_string(out, "cpu");
    pickle_int(out, channels * frames);
    ace_text_add(out, "tQ"); /* TUPLE, BINPERSID */
    pickle_int(out, 0);
    pickle_int(out, 1);
    pickle_int(out, channels);
    pickle_int(out, frames);
    ace_text_add(out, "\x87"); /* TUPLE3 */
    pickle_int(out, channels * frames);
    pickle_int(out, frames);
    pickle_int(out, 1);
    ace_text_add(out, "\x87");
    ace_text_add(out, "\x89");                          /* NEWFALSE: requires_grad */
    ace_text_add(out, "ccollections\nOrderedDict\n)R"); /* no hooks */
    ace_text_add(out, "tR.");                           /* TUPLE, REDUCE, STOP */
}

bool tiny_write_silence(const char *directory, ace_error *error)
{
    archive zip = {0};
    ace_text pickle = {0}, storage = {0};
    pickle_tensor(&pickle);
    for (int c = 0; c < TINY_LATENT_CHANNELS; c++) {
        for (int t = 0; t < TINY_SILENCE_FRAMES; t++) {
            float value = tiny_silence(c, t);
            uint32_t word;
            memcpy(&word, &value, 4);
            put(&storage, 4, word);
        }
    }
    zip.file.failed = pickle.failed || storage.failed;
    if (!zip.file.failed) {
        add_entry(&zip, "data.pkl", pickle.data, pickle.length);
        add_entry(&zip, "byteorder", "little", 6);
        add_entry(&zip, "data/0", storage.data, storage.length);
        add_entry(&zip, "version", "3\n", 2);
        finish(&zip);
    }
    ace_text_free(&pickle);
    ace_text_free(&storage);
    return tiny_write_text(directory, "silence_latent.pt", &zip.file, error);
}
