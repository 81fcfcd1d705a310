/* lm_genres.h - the list of genres that the planner may write, and which tokens lead along it (spec/lm.md 4.8).
 *
 * The list is kept sorted: the genres that start with a prefix are then neighbours, and a prefix is a range. The texts
 * of the tokens are kept sorted too, so that a token is tried from where it leaves the one before it. */
#ifndef ACE_LM_GENRES_H
#define ACE_LM_GENRES_H

#include "lm/lm_grammar.h"

typedef struct lm_genre_text {
    uint32_t at, length; /* in lm_genres.bytes */
} lm_genre_text;

/* What a token would add to a genre. */
typedef struct lm_genre_token {
    int32_t id;
    uint32_t shared; /* with the text of the token before it */
    lm_genre_text text;
} lm_genre_token;

/* Zero-initialise; release with lm_genres_free(). Immutable once opened. */
typedef struct lm_genres {
    lm_profile profile;
    ace_text bytes;
    lm_genre_text *entries; /* sorted */
    size_t count;
    lm_genre_token *tokens; /* sorted by text; those that are more than white space */
    size_t token_count;
    lm_genre_token *blanks; /* official: tokens of white space only; text is their first character */
    size_t blank_count;
} lm_genres;

/* Reads a list: one genre a line, trimmed and lower-cased; blank lines and those that start with # are left out. The
 * ids whose bit is set in `usable` are the tokens that genres may be made of. ACE_ERROR_FORMAT for a damaged list. */
bool lm_genres_open(lm_genres *genres, lm_profile profile, const char *path, const ace_tokenizer *tokenizer,
                    const uint64_t *usable, ace_error *error);
void lm_genres_free(lm_genres *genres);

/* All genres; and whether a prefix is one of them. */
lm_genre_prefix lm_genres_all(const lm_genres *genres);
bool lm_genres_complete(const lm_genres *genres, lm_genre_prefix prefix);

/* The genres that go on with these bytes; first == end when there are none. */
lm_genre_prefix lm_genres_step(const lm_genres *genres, lm_genre_prefix prefix, const char *bytes, size_t n);

/* Sets the bits of the tokens that may follow the prefix. `start`: nothing was written yet. */
void lm_genres_allowed(const lm_genres *genres, lm_genre_prefix prefix, bool start, uint64_t *bits);

/* A token was written: official keeps the prefix twice, without its trailing white space (*prefix) and with (*tail).
 * `start`: nothing but white space was written yet (official), nothing at all (default). */
void lm_genres_write(const lm_genres *genres, const char *bytes, size_t n, bool start, lm_genre_prefix *prefix,
                     lm_genre_prefix *tail);

#endif
