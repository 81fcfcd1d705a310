/* lm_grammar_tables.h - what a grammar and a plan are made of: shared by the files that build them and the file that
 * walks through them. */
#ifndef ACE_LM_GRAMMAR_TABLES_H
#define ACE_LM_GRAMMAR_TABLES_H

#include "lm/lm_genres.h"
#include "lm/lm_trie.h"

/* Texts that are forced: the names of the seven fields ("bpm:"), in the order of lm_field, and two more. */
enum {
    LM_RUN_THINK = LM_FIELD_COUNT, /* "<think>\n" */
    LM_RUN_EYSCALE,                /* official: what is left of "keyscale:" when its first letter was lost (D5) */
    LM_RUN_COUNT
};

enum { LM_RUN_TOKENS = 16 };

typedef struct lm_run {
    int32_t ids[LM_RUN_TOKENS];
    size_t count;
} lm_run;

/* What the grammar knows about a token's text. */
enum {
    LM_TRAIT_TEXT = 1,    /* of the vocabulary proper: no added token, no audio code */
    LM_TRAIT_INDENT = 2,  /* starts with a space or a tab */
    LM_TRAIT_NEWLINE = 4, /* contains a line feed */
    LM_TRAIT_COLON = 8,   /* contains a colon */
    LM_TRAIT_BLANK = 16   /* is white space only */
};

typedef enum lm_table_set {
    LM_SET_ALL,          /* every row of the head */
    LM_SET_CAPTION,      /* any line of a caption */
    LM_SET_GENRES,       /* genres without a list */
    LM_SET_GENRES_START, /* the same while there is only white space */
    LM_SET_LYRICS,       /* after </think> */
    LM_SET_CODES,
    LM_SET_CODES_OR_END,
    LM_SET_COUNT
} lm_table_set;

struct lm_grammar {
    const ace_tokenizer *tokenizer;
    lm_profile profile;
    int max_duration;                               /* seconds */
    int32_t limit;                                  /* of token ids */
    int32_t newline, backtick, end, pad, think_end; /* "\n", "`", <|im_end|>, <|endoftext|> (-1: none), </think> */
    int32_t codes_first, codes_count;
    lm_run runs[LM_RUN_COUNT];
    lm_trie tries[LM_FIELD_COUNT]; /* of the fields with a set of values */
    lm_token_set sets[LM_SET_COUNT];
    uint8_t *traits; /* by id */
    bool has_genres;
    lm_genres genres;
};

struct lm_grammar_plan {
    const lm_grammar *grammar;
    lm_phase phase;
    bool stop_at_reasoning;
    bool skip[LM_FIELD_COUNT];
    ace_ids given[LM_FIELD_COUNT]; /* " value\n"; empty: the model chooses */
    int64_t codes;                 /* -1: as many as the model likes */
    /* for genres with a list: where allowed sets are put together */
    uint64_t *bits;
    lm_token_range *ranges;
};

#endif
