/* token_table.h - one row for each token of a vocabulary: the embedding of a language model, and its head. All rows are
 * on the device, or a range of them, while the others are fetched when they are asked for. */
#ifndef ACE_MODEL_TOKEN_TABLE_H
#define ACE_MODEL_TOKEN_TABLE_H

#include "model/weights.h"

/* Rows that are fetched at a time: this many are on the device for a moment, however few are asked for, so that the
 * memory of it is known beforehand. */
enum { TOKEN_TABLE_WINDOW = 2048 };

typedef struct token_table {
    ace_device *dev;
    const ace_tensor *tensor;
    ace_weight *kept;    /* TABLE: rows [first, first + its n) */
    int64_t first, rows; /* rows: of the whole table */
} token_table;

/* Loads the tensor `name`, [rows][cols], into `set`: its rows [first, first + count), or all of them when count is 0.
 * With a range the set's part must outlive the table. Failures stick in the set's device. */
void token_table_load(token_table *table, ace_weight_set *set, int64_t rows, int64_t cols, const char *name,
                      int64_t first, int64_t count);

/* As ace_embed(): y[i] = row ids[i]. ids: host; NULL on the meter. An id beyond the table is an ACE_ERROR_MODEL in the
 * device. */
void token_table_embed(const token_table *table, ace_mat y, const int32_t *ids, int64_t count);

/* Whether rows [first, first + count) are all on the device. */
bool token_table_keeps(const token_table *table, int64_t first, int64_t count);

/* As ace_embed_choices(), of rows from `first` on that are on the device. */
void token_table_embed_choices(const token_table *table, ace_mat y, int64_t first, ace_mat choices);

/* As ace_logits(): y[m][i] = x[m] . row ids[i], or row first + i where ids is NULL. */
void token_table_logits(const token_table *table, ace_mat y, ace_mat x, int64_t first, const int32_t *ids,
                        int64_t count);

#endif
