#include "model/token_table.h"

#include "base/error.h"

/* ---- loading --------------------------------------------------------------------------------------------------- */

/* Rows of a tensor: ids[i], the last of `count` again beyond them; without ids those from `first` on. */
typedef struct row_choice {
    const ace_tensor *tensor;
    const int32_t *ids;
    int64_t first, count, cols;
} row_choice;

static bool read_chosen(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const row_choice *choice = context;
    char *out = rows;
    for (int64_t i = first; i < first + count; i++, out += (size_t)choice->cols * ace_dtype_block_bytes(dtype)) {
        int64_t at = i < choice->count ? i : choice->count - 1,
                row = choice->ids ? choice->ids[at] : choice->first + at;
        bool ok =
            dtype == ACE_BF16
                ? tensor_read_bf16(choice->tensor, row * choice->cols, choice->cols, (uint16_t *)(void *)out, error)
                : tensor_read(choice->tensor, row * choice->cols, choice->cols, (float *)(void *)out, error);
        if (!ok) return false;
    }
    return true;
}

static ace_weight_desc describe(const ace_tensor *tensor, int64_t rows, int64_t cols)
{
    return (ace_weight_desc){.kind = ACE_WEIGHT_TABLE,
                             .name = tensor->name,
                             .n = rows,
                             .k = cols,
                             .taps = 1,
                             .keep_bf16 = tensor->dtype == ACE_BF16};
}

void token_table_load(token_table *table, ace_weight_set *set, int64_t rows, int64_t cols, const char *name,
                      int64_t first, int64_t count)
{
    *table = (token_table){.dev = set->dev, .first = count ? first : 0, .rows = rows};
    table->tensor = weights_tensor(set, name, 2, (const int64_t[]){rows, cols});
    if (!table->tensor) return;
    if (table->first < 0 || count > rows - table->first) {
        ace_error error = {0};
        ace_fail(&error, ACE_ERROR_INTERNAL,
                 "rows beyond the end of %s are to be kept: this is a bug, please report it", name);
        ace_device_fail(set->dev, &error);
        return;
    }
    row_choice choice = {.tensor = table->tensor, .first = table->first, .count = count ? count : rows, .cols = cols};
    ace_weight_desc desc = describe(table->tensor, choice.count, cols);
    table->kept = weights_from_reader(set, &desc, read_chosen, &choice);
}

/* ---- rows that are not kept ------------------------------------------------------------------------------------ */

/* TOKEN_TABLE_WINDOW rows, of which the first are those that are asked for. NULL with the device's failure. */
static ace_weight *fetch(const token_table *table, int64_t first, const int32_t *ids, int64_t count)
{
    int64_t cols = ace_weight_k(table->kept);
    row_choice choice = {.tensor = table->tensor, .ids = ids, .first = first, .count = count, .cols = cols};
    ace_weight_desc desc = describe(table->tensor, TOKEN_TABLE_WINDOW, cols);
    return ace_weight_new(table->dev, &desc, read_chosen, &choice);
}

static int64_t at_most(int64_t count, int64_t most)
{
    return count < most ? count : most;
}

static bool is_kept(const token_table *table, int64_t id)
{
    return id >= table->first && id - table->first < ace_weight_n(table->kept);
}

/* Ids come from a tokenizer file, which need not belong to these weights. */
static bool usable(const token_table *table, const int32_t *ids, int64_t count)
{
    ace_error error = {0};
    if (!ace_device_ok(table->dev, NULL)) return false;
    for (int64_t i = 0; ids && i < count; i++) {
        if (ids[i] >= 0 && ids[i] < table->rows) continue;
        ace_fail(&error, ACE_ERROR_MODEL,
                 "token %d does not exist in the model's vocabulary of %lld: tokenizer and model are not from the same "
                 "checkpoint",
                 (int)ids[i], (long long)table->rows);
        ace_device_fail(table->dev, &error);
        return false;
    }
    return true;
}

/* ---- using it -------------------------------------------------------------------------------------------------- */

static bool all_kept(const token_table *table, const int32_t *ids, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!is_kept(table, ids[i])) return false;
    return true;
}

/* Up to a window of tokens. */
static void some_rows(const token_table *table, ace_mat y, const int32_t *ids)
{
    int32_t places[TOKEN_TABLE_WINDOW];
    bool kept = ids && all_kept(table, ids, y.rows);
    for (int64_t i = 0; i < y.rows; i++) places[i] = (int32_t)(kept ? ids[i] - table->first : i);
    if (kept) {
        ace_embed(table->dev, y, table->kept, places, y.rows);
        return;
    }
    ace_weight *window = fetch(table, 0, ids, y.rows);
    if (window) ace_embed(table->dev, y, window, places, y.rows);
    ace_weight_free(table->dev, window);
}

void token_table_embed(const token_table *table, ace_mat y, const int32_t *ids, int64_t count)
{
    if (!usable(table, ids, count)) return;
    if (table->rows == ace_weight_n(table->kept)) {
        ace_embed(table->dev, y, table->kept, ids, count);
        return;
    }
    for (int64_t at = 0; at < count; at += TOKEN_TABLE_WINDOW)
        some_rows(table, ace_rows(y, at, at_most(count - at, TOKEN_TABLE_WINDOW)), ids ? ids + at : NULL);
}

bool token_table_keeps(const token_table *table, int64_t first, int64_t count)
{
    return table->kept && first >= table->first && first + count <= table->first + ace_weight_n(table->kept);
}

void token_table_embed_choices(const token_table *table, ace_mat y, int64_t first, ace_mat choices)
{
    ace_embed_choices(table->dev, y, table->kept, first - table->first, choices);
}

/* Of neighbouring columns whose rows are all kept or all not, and are no more than a window unless they are kept and
 * have no ids. */
static void some_logits(const token_table *table, ace_mat y, ace_mat x, int64_t first, const int32_t *ids)
{
    int32_t places[TOKEN_TABLE_WINDOW];
    if (is_kept(table, ids ? ids[0] : first)) {
        for (int64_t i = 0; ids && i < y.cols; i++) places[i] = ids[i] - (int32_t)table->first;
        ace_logits(table->dev, y, x, table->kept, first - table->first, ids ? places : NULL, y.cols);
        return;
    }
    ace_weight *window = fetch(table, first, ids, y.cols);
    if (window) ace_logits(table->dev, y, x, window, 0, NULL, y.cols);
    ace_weight_free(table->dev, window);
}

/* How many of `count` neighbouring columns have rows that are all kept or all not, and come in one go. */
static int64_t run_length(const token_table *table, int64_t first, const int32_t *ids, int64_t count)
{
    bool kept = is_kept(table, ids ? ids[0] : first);
    int64_t end = table->first + ace_weight_n(table->kept), now = 1;
    if (!ids && kept) return at_most(count, end - first);
    if (!ids) return at_most(at_most(count, TOKEN_TABLE_WINDOW), first < table->first ? table->first - first : count);
    while (now < at_most(count, TOKEN_TABLE_WINDOW) && is_kept(table, ids[now]) == kept) now++;
    return now;
}

void token_table_logits(const token_table *table, ace_mat y, ace_mat x, int64_t first, const int32_t *ids,
                        int64_t count)
{
    bool fetched = false;
    if (!usable(table, ids, count)) return;
    if (table->rows == ace_weight_n(table->kept)) {
        ace_logits(table->dev, y, x, table->kept, first, ids, count);
        return;
    }
    for (int64_t at = 0, now; at < count; at += now) {
        const int32_t *rest = ids ? ids + at : NULL;
        now = run_length(table, first + at, rest, count - at);
        some_logits(table, ace_cols(y, at, now), x, first + at, rest);
        fetched = fetched || !is_kept(table, ids ? ids[at] : first + at);
    }
    if (fetched && !ace_device_is_meter(table->dev)) tensor_not_needed(table->tensor);
}
