/* The zip file that torch.save() writes for one float32 tensor (dit.md 1.5): entries are stored, not compressed, so the
 * tensor is read where it lies. Of the pickle only the few bytes are read that give the tensor's shape. */
#include "base/bytes.h"
#include "base/error.h"
#include "formats/tensors_build.h"

#include <string.h>

enum {
    END_SIZE = 22,     /* end of central directory, without comment */
    LOCATOR_SIZE = 20, /* zip64 locator, just before it */
    END64_SIZE = 56,
    ENTRY_SIZE = 46, /* of the central directory, without names */
    LOCAL_SIZE = 30,
    COMMENT_LIMIT = 65535
};

typedef struct zip_entry {
    const uint8_t *name;
    size_t name_length;
    const uint8_t *data;
    size_t size, offset;
    uint32_t crc;
} zip_entry;

typedef struct zip_directory {
    size_t offset; /* of the next entry */
    uint64_t left; /* entries */
} zip_directory;

/* CRC-32 of zip (reflected 0xedb88320). */
static uint32_t crc32_of(const uint8_t *data, size_t n)
{
    uint32_t table[256], crc = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++) v = v & 1 ? v >> 1 ^ 0xedb88320u : v >> 1;
        table[i] = v;
    }
    for (size_t i = 0; i < n; i++) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
    return ~crc;
}

static bool find_directory(const tensors_file *file, zip_directory *directory, ace_error *error)
{
    const uint8_t *data = file->data;
    size_t size = file->size, end = 0;
    if (size >= END_SIZE) {
        size_t last = size - END_SIZE, lowest = last > COMMENT_LIMIT ? last - COMMENT_LIMIT : 0;
        for (size_t at = last; !end; at--) {
            if (bytes_le32(data + at) == 0x06054b50u) end = at; /* "PK\5\6" */
            if (at == lowest) break;
        }
    }
    if (!end) return tensors_damaged(error, file->path, "the end of the zip file is missing");
    directory->left = bytes_le16(data + end + 10);
    uint64_t offset = bytes_le32(data + end + 16);
    if (offset == 0xffffffffu || directory->left == 0xffffu) {
        uint64_t at = 0;
        if (end >= LOCATOR_SIZE && memcmp(data + end - LOCATOR_SIZE, "PK\6\7", 4) == 0)
            at = bytes_le64(data + end - LOCATOR_SIZE + 8);
        if (size < END64_SIZE || at > size - END64_SIZE || memcmp(data + at, "PK\6\6", 4) != 0)
            return tensors_damaged(error, file->path, "the zip64 directory is missing");
        directory->left = bytes_le64(data + at + 32);
        offset = bytes_le64(data + at + 48);
    }
    if (offset > end) return tensors_damaged(error, file->path, "the zip directory lies outside the file");
    directory->offset = (size_t)offset;
    return true;
}

/* Reads the next directory entry and finds its data through the local header, whose lengths are the ones that count:
 * torch pads the local extra field to align the data. */
static bool next_entry(const tensors_file *file, zip_directory *directory, zip_entry *entry, ace_error *error)
{
    const uint8_t *data = file->data;
    size_t at = directory->offset, size = file->size;
    if (size < ENTRY_SIZE || at > size - ENTRY_SIZE || memcmp(data + at, "PK\1\2", 4) != 0)
        return tensors_damaged(error, file->path, "no zip directory entry at byte %zu", at);
    const uint8_t *p = data + at;
    size_t name = bytes_le16(p + 28), rest = (size_t)bytes_le16(p + 30) + bytes_le16(p + 32);
    if (name + rest > size - ENTRY_SIZE - at)
        return tensors_damaged(error, file->path, "the zip directory entry at byte %zu is cut short", at);
    *entry = (zip_entry){.name = p + ENTRY_SIZE, .name_length = name, .size = bytes_le32(p + 20)};
    entry->crc = bytes_le32(p + 16);
    directory->offset = at + ENTRY_SIZE + name + rest;
    directory->left--;
    if (bytes_le16(p + 10) != 0 || (bytes_le16(p + 8) & 1) || bytes_le32(p + 24) != entry->size)
        return tensors_damaged(error, file->path,
                               "its entry at byte %zu is compressed or encrypted, which torch.save "
                               "never does",
                               at);
    size_t local = bytes_le32(p + 42);
    if (size < LOCAL_SIZE || local > size - LOCAL_SIZE || memcmp(data + local, "PK\3\4", 4) != 0)
        return tensors_damaged(error, file->path, "no zip entry at byte %zu", local);
    size_t start = local + LOCAL_SIZE + bytes_le16(data + local + 26) + bytes_le16(data + local + 28);
    if (start > size || entry->size > size - start)
        return tensors_damaged(error, file->path, "the zip entry at byte %zu reaches beyond the end", local);
    entry->offset = start;
    entry->data = data + start;
    return true;
}

/* True when the entry's name, behind the archive's own folder, is `name`. */
static bool is_named(const zip_entry *entry, const char *name)
{
    const uint8_t *slash = memchr(entry->name, '/', entry->name_length);
    if (!slash) return false;
    size_t length = entry->name_length - (size_t)(slash + 1 - entry->name);
    return length == strlen(name) && memcmp(slash + 1, name, length) == 0;
}

static bool contains(const zip_entry *entry, const char *text)
{
    return entry->data && memmem(entry->data, entry->size, text, strlen(text)) != NULL;
}

/* ---- the pickle ------------------------------------------------------------------------------------------------- */

/* The opcodes of pickle protocol 2 that write a tuple of small integers (Python's pickletools). */
enum {
    PICKLE_BINPERSID = 'Q', /* the storage is on the stack */
    PICKLE_BININT1 = 'K',
    PICKLE_BININT2 = 'M',
    PICKLE_BININT = 'J',
    PICKLE_MARK = '(',
    PICKLE_TUPLE = 't', /* of everything since the mark */
    PICKLE_EMPTY_TUPLE = ')',
    PICKLE_TUPLE1 = 0x85, /* of one; the next two opcodes: of two, of three */
    PICKLE_BINPUT = 'q'   /* remember under a number of one byte; LONG_BINPUT 'r': of four */
};

/* An integer at *at; *at moves behind it. */
static bool pickle_int(const zip_entry *pickle, size_t *at, int64_t *value)
{
    const uint8_t *p = pickle->data + *at;
    size_t left = pickle->size - *at;
    size_t n = left < 2 ? 0 : p[0] == PICKLE_BININT1 ? 1 : p[0] == PICKLE_BININT2 ? 2 : p[0] == PICKLE_BININT ? 4 : 0;
    if (n == 0 || left < 1 + n) return false;
    *value = n == 1 ? p[1] : n == 2 ? bytes_le16(p + 1) : (int32_t)bytes_le32(p + 1);
    *at += 1 + n;
    return true;
}

/* A tuple of at most TENSOR_MAX_RANK integers, and the instruction to remember it; the number of integers, or -1. */
static int pickle_tuple(const zip_entry *pickle, size_t *at, int64_t values[TENSOR_MAX_RANK])
{
    int count = 0;
    int64_t value;
    bool mark = *at < pickle->size && pickle->data[*at] == PICKLE_MARK;
    if (mark) ++*at;
    while (pickle_int(pickle, at, &value)) {
        if (count == TENSOR_MAX_RANK) return -1;
        values[count++] = value;
    }
    int end = *at < pickle->size ? pickle->data[(*at)++] : -1;
    int wanted = mark ? PICKLE_TUPLE : count == 0 ? PICKLE_EMPTY_TUPLE : PICKLE_TUPLE1 + count - 1;
    if (end != wanted || (!mark && count > 3)) return -1;
    if (*at + 1 < pickle->size && pickle->data[*at] == PICKLE_BINPUT) *at += 2;
    return count;
}

/* The shape of the tensor from position `at`, just behind the storage: there the pickle has the offset (0), the sizes
 * and the strides. Only a tensor that is the whole storage in the order of its elements will do, not a view. */
static bool read_shape_at(const zip_entry *pickle, size_t at, ace_tensor *tensor)
{
    int64_t offset, strides[TENSOR_MAX_RANK], expected = 1;
    size_t bytes;
    if (!pickle_int(pickle, &at, &offset) || offset != 0) return false;
    tensor->rank = pickle_tuple(pickle, &at, tensor->shape);
    if (tensor->rank < 0 || pickle_tuple(pickle, &at, strides) != tensor->rank) return false;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        if (tensor->shape[i] < 1 || (tensor->shape[i] > 1 && strides[i] != expected)) return false;
        if (__builtin_mul_overflow(expected, tensor->shape[i], &expected)) return false;
    }
    return tensors_measure(tensor, &bytes) && bytes == tensor->bytes;
}

/* The byte of the opcode may also be part of a number, so every one is tried. */
static bool read_shape(const zip_entry *pickle, ace_tensor *tensor)
{
    for (size_t at = 0; at < pickle->size; at++)
        if (pickle->data[at] == PICKLE_BINPERSID && read_shape_at(pickle, at + 1, tensor)) return true;
    return false;
}

bool torch_zip_parse(ace_tensors *tensors, const tensors_file *file, ace_error *error)
{
    zip_directory directory = {0};
    zip_entry storage = {0}, pickle = {0}, entry;
    bool several = false, big_endian = false;
    if (!find_directory(file, &directory, error)) return false;
    while (directory.left > 0) {
        if (!next_entry(file, &directory, &entry, error)) return false;
        if (is_named(&entry, "data/0")) storage = entry;
        if (is_named(&entry, "data.pkl")) pickle = entry;
        if (is_named(&entry, "data/1")) several = true;
        if (is_named(&entry, "byteorder")) big_endian = contains(&entry, "big");
    }
    if (!storage.data || !pickle.data || several || big_endian || !contains(&pickle, "FloatStorage") ||
        storage.size % 4 != 0)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "'%s' is not a torch file of a single little-endian float32 tensor: of the .pt files only "
                        "silence_latent.pt is read",
                        file->path);
    ace_tensor tensor = {.dtype = ACE_F32, .path = file->path, .bytes = storage.size};
    tensor.offset = storage.offset;
    tensor.data = storage.data;
    bool plain = read_shape(&pickle, &tensor);
    if (crc32_of(storage.data, storage.size) != storage.crc || crc32_of(pickle.data, pickle.size) != pickle.crc)
        return tensors_damaged(error, file->path, "its checksum does not match its content");
    if (!plain)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "'%s' is not a plain torch tensor (a view, or something else than one tensor): save it again "
                        "with torch.save(x.contiguous().clone(), ...)",
                        file->path);
    return tensors_add(tensors, &tensor, "data", strlen("data"), "FloatStorage", error);
}
