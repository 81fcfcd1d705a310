#include "model/weights.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

#include <stdlib.h>

void weights_begin(ace_weight_set *set, ace_device *dev, const ace_part *part)
{
    *set = (ace_weight_set){.dev = dev, .part = part};
}

void weights_free(ace_weight_set *set)
{
    for (size_t i = 0; i < set->count; i++) ace_weight_free(set->dev, set->weights[i]);
    free(set->weights);
    set->weights = NULL;
    set->count = set->capacity = set->next = 0;
}

void weights_again(ace_weight_set *set)
{
    set->next = 0;
}

/* ---- checking tensors ---------------------------------------------------------------------------------------- */

static const ace_tensor *find(ace_weight_set *set, const char *name)
{
    if (!ace_device_ok(set->dev, NULL)) return NULL;
    const ace_tensor *tensor = part_find(set->part, name);
    if (!tensor) {
        ace_error error = {0};
        ace_fail(&error, ACE_ERROR_MODEL, "%s: tensor %s is missing: the file is incomplete or not this kind of model",
                 part_path(set->part), name);
        ace_device_fail(set->dev, &error);
    }
    return tensor;
}

static void describe_shape(ace_text *text, int rank, const int64_t *shape)
{
    for (int d = 0; d < rank; d++) ace_text_format(text, d ? ", %lld" : "%lld", (long long)shape[d]);
}

static const ace_tensor *misshapen(ace_weight_set *set, const ace_tensor *tensor, int rank, const int64_t *expected)
{
    ace_error error = {0};
    ace_text text = {0};
    ace_text_format(&text, "%s: tensor %s is [", tensor->path, tensor->name);
    describe_shape(&text, tensor->rank, tensor->shape);
    ace_text_add(&text, "] but the model's dimensions ask for [");
    describe_shape(&text, rank, expected);
    ace_text_add(&text, "]: the config and the weights are not from the same model");
    char *message = ace_text_take(&text, &error);
    if (message) ace_fail(&error, ACE_ERROR_MODEL, "%s", message);
    free(message);
    ace_device_fail(set->dev, &error);
    return NULL;
}

const ace_tensor *weights_tensor(ace_weight_set *set, const char *name, int rank, const int64_t *shape)
{
    const ace_tensor *tensor = find(set, name);
    if (!tensor) return NULL;
    bool same = tensor->rank == rank;
    for (int d = 0; same && d < rank; d++) same = tensor->shape[d] == shape[d];
    return same ? tensor : misshapen(set, tensor, rank, shape);
}

/* A tensor of rows * cols elements whose rows are `cols` long, whatever its leading dimensions. rows = 0: any number.
 */
static const ace_tensor *find_rows(ace_weight_set *set, const char *name, int64_t rows, int64_t cols)
{
    const ace_tensor *tensor = find(set, name);
    if (!tensor) return NULL;
    bool whole = tensor->rank > 0 && tensor->shape[tensor->rank - 1] == cols && tensor->count > 0;
    if (whole && (rows == 0 || tensor->count / cols == rows)) return tensor;
    return misshapen(set, tensor, 2, (const int64_t[]){rows, cols});
}

/* ---- reading rows -------------------------------------------------------------------------------------------- */

/* Tensors one below the other: a row of the whole is a row of one of them. */
typedef struct row_source {
    const ace_tensor *tensors[WEIGHTS_MAX_STACK];
    int count;
    int64_t cols;
} row_source;

static bool read_elements(const ace_tensor *tensor, int64_t first, int64_t count, ace_dtype dtype, void *values,
                          ace_error *error)
{
    if (dtype == ACE_BF16) return tensor_read_bf16(tensor, first, count, values, error);
    if (dtype != ACE_F32) return tensor_read_blocks(tensor, first, count, dtype, values, error);
    return tensor_read(tensor, first, count, values, error);
}

static bool read_rows(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const row_source *source = context;
    char *out = rows;
    int64_t base = 0;
    for (int i = 0; i < source->count && count > 0; i++) {
        const ace_tensor *tensor = source->tensors[i];
        int64_t end = base + tensor->count / source->cols;
        if (first < end) {
            int64_t here = end - first < count ? end - first : count;
            if (!read_elements(tensor, (first - base) * source->cols, here * source->cols, dtype, out, error))
                return false;
            out += (size_t)(here * source->cols / ace_dtype_block(dtype)) * ace_dtype_block_bytes(dtype);
            first += here;
            count -= here;
        }
        base = end;
    }
    return true;
}

/* ---- making weights ------------------------------------------------------------------------------------------ */

static bool make_room(ace_weight_set *set)
{
    ace_error error = {0};
    if (set->count < set->capacity) return true;
    size_t capacity = set->capacity ? 2 * set->capacity : 64;
    ace_weight **grown = ace_realloc(set->weights, capacity, sizeof *grown, "the list of weights", &error);
    if (!grown) {
        ace_device_fail(set->dev, &error);
        return false;
    }
    set->weights = grown;
    set->capacity = capacity;
    return true;
}

ace_weight *weights_from_reader(ace_weight_set *set, const ace_weight_desc *desc, ace_row_reader reader, void *context)
{
    if (!ace_device_ok(set->dev, NULL)) return NULL;
    if (set->next < set->count) {
        ace_weight **slot = &set->weights[set->next];
        if (*slot && ace_weight_refill(set->dev, *slot, desc, reader, context)) return set->weights[set->next++];
        ace_weight_free(set->dev, *slot);
        *slot = ace_weight_new(set->dev, desc, reader, context);
        return *slot ? set->weights[set->next++] : NULL;
    }
    if (!make_room(set)) return NULL;
    ace_weight *weight = ace_weight_new(set->dev, desc, reader, context);
    if (!weight) return NULL;
    set->weights[set->count++] = weight;
    set->next = set->count;
    return weight;
}

/* The blocks that all of the source has, in rows of whole blocks; ACE_F32 when there are none. */
static ace_dtype common_blocks(const row_source *source)
{
    ace_dtype dtype = source->tensors[0]->dtype;
    for (int i = 1; i < source->count; i++)
        if (source->tensors[i]->dtype != dtype) return ACE_F32;
    bool whole = ace_dtype_block(dtype) > 1 && source->cols % ace_dtype_block(dtype) == 0;
    return whole ? dtype : ACE_F32;
}

/* The form that was asked for, where the source can have it. */
static void choose_form(ace_weight_desc *desc, ace_weight_form form, const row_source *source)
{
    enum { INT4_GROUP = 32 };
    if (desc->kind != ACE_WEIGHT_PRODUCT && desc->kind != ACE_WEIGHT_GATED) return;
    if (form == ACE_FORM_INT8 || (form == ACE_FORM_INT4 && desc->k % INT4_GROUP == 0)) desc->form = form;
    ace_dtype blocks = form == ACE_FORM_BLOCKS ? common_blocks(source) : ACE_F32;
    if (blocks == ACE_F32) return;
    desc->form = ACE_FORM_BLOCKS;
    desc->blocks = blocks;
}

static ace_weight *from_source(ace_weight_set *set, ace_weight_kind kind, const char *name, row_source *source)
{
    bool files = !ace_device_is_meter(set->dev); /* the meter reads none */
    if (set->use == WEIGHTS_AHEAD) {
        for (int i = 0; files && i < source->count; i++) tensor_will_need(source->tensors[i]);
        return NULL;
    }
    ace_weight_desc desc = {.kind = kind, .name = name, .k = source->cols, .taps = 1};
    for (int i = 0; i < source->count; i++) desc.n += source->tensors[i]->count / source->cols;
    desc.keep_bf16 = kind == ACE_WEIGHT_TABLE && source->tensors[0]->dtype == ACE_BF16;
    choose_form(&desc, set->form, source);
    ace_weight *weight = weights_from_reader(set, &desc, read_rows, source);
    for (int i = 0; files && set->use == WEIGHTS_PASSING && i < source->count; i++)
        tensor_not_needed(source->tensors[i]);
    return weight;
}

static ace_weight *stacked(ace_weight_set *set, ace_weight_kind kind, int64_t in, const ace_linear_part *parts,
                           int count)
{
    row_source source = {.count = count, .cols = in};
    for (int i = 0; i < count; i++) {
        source.tensors[i] = weights_tensor(set, parts[i].name, 2, (const int64_t[]){parts[i].out, in});
        if (!source.tensors[i]) return NULL;
    }
    return from_source(set, kind, parts[0].name, &source);
}

ace_weight *weights_linear_stack(ace_weight_set *set, int64_t in, const ace_linear_part *parts, int count)
{
    return stacked(set, ACE_WEIGHT_PRODUCT, in, parts, count);
}

ace_weight *weights_linear(ace_weight_set *set, int64_t out, int64_t in, const char *name)
{
    return stacked(set, ACE_WEIGHT_PRODUCT, in, (const ace_linear_part[]){{name, out}}, 1);
}

ace_weight *weights_gated(ace_weight_set *set, int64_t intermediate, int64_t hidden, const char *gate, const char *up)
{
    return stacked(set, ACE_WEIGHT_GATED, hidden, (const ace_linear_part[]){{gate, intermediate}, {up, intermediate}},
                   2);
}

ace_weight *weights_vector(ace_weight_set *set, int64_t n, const char *name)
{
    const ace_tensor *tensor = find(set, name);
    if (!tensor) return NULL;
    if (tensor->count != n) {
        misshapen(set, tensor, 1, &n);
        return NULL;
    }
    return from_source(set, ACE_WEIGHT_VECTOR, name, &(row_source){.tensors = {tensor}, .count = 1, .cols = 1});
}

ace_weight *weights_table(ace_weight_set *set, int64_t rows, int64_t cols, const char *name)
{
    const ace_tensor *tensor = find_rows(set, name, rows, cols);
    if (!tensor) return NULL;
    return from_source(set, ACE_WEIGHT_TABLE, name, &(row_source){.tensors = {tensor}, .count = 1, .cols = cols});
}

/* ---- from the host ------------------------------------------------------------------------------------------- */

typedef struct host_rows {
    const float *values;
    int64_t cols;
} host_rows;

static bool read_host_rows(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    (void)error;
    const host_rows *source = context;
    const float *values = source->values + first * source->cols;
    size_t n = (size_t)(count * source->cols);
    if (dtype == ACE_BF16) {
        uint16_t *out = rows;
        for (size_t i = 0; i < n; i++) out[i] = ace_f32_to_bf16(values[i]);
    } else {
        memcpy(rows, values, n * sizeof *values);
    }
    return true;
}

ace_weight *weights_from_host(ace_weight_set *set, const ace_weight_desc *desc, const float *values)
{
    return weights_from_reader(set, desc, read_host_rows, &(host_rows){values, desc->k});
}
