/* cli.h - what the commands share. The program knows the library by its public header only. */
#ifndef ACE_CLI_CLI_H
#define ACE_CLI_CLI_H

#include <acestep.h>

/* ---- commands: each gets its own arguments and returns the exit code ---- */
int command_generate(int count, char **arguments);
int command_write(int count, char **arguments);
int command_format(int count, char **arguments);
int command_understand(int count, char **arguments);
int command_bench(int count, char **arguments);
int command_doctor(int count, char **arguments);
int command_gpu(int count, char **arguments);
int command_plan(int count, char **arguments);
int command_tier_test(int count, char **arguments);

/* ---- options ---- */

/* One option of a command. `value` NULL: a switch. `set` gets the value ("" for a switch). */
typedef struct cli_option {
    const char *name;  /* "--model" */
    const char *brief; /* "-m" or NULL */
    const char *value; /* "DIR" */
    const char *help;
    bool (*set)(void *target, const char *value, ace_error *error);
} cli_option;

/* Walks the arguments: options (also --name=value) are given to their setters, others to `positional`. `unknown`, when
 * not NULL, may take an option that is not in the table: it returns 1 if it did, 0 if not, -1 with an error, and sets
 * *used to the number of arguments it consumed. "--" ends the options. --help sets *help and stops. */
typedef struct cli_parser {
    const cli_option *options;
    size_t count;
    void *target;
    bool (*positional)(void *target, const char *value, ace_error *error);
    int (*unknown)(void *target, const char *name, const char *inline_value, const char *next, int *used,
                   ace_error *error);
    const cli_option *more; /* a second table, may be NULL */
    size_t more_count;
} cli_parser;

bool cli_parse(const cli_parser *parser, int count, char **arguments, bool *help, ace_error *error);
void cli_print_options(const cli_option *options, size_t count);

/* The options that say which model runs and how, for every command that opens an engine. `target` must begin with an
 * ace_engine_options. */
extern const cli_option cli_engine_options[];
extern const size_t cli_engine_option_count;

/* What a command that takes a request begins with. */
typedef struct cli_wish {
    ace_engine_options engine; /* first: the engine's option setters write here */
    ace_request *request;
} cli_wish;

/* --lyrics, --from and other ways to set a request; `target` must begin with a cli_wish. */
extern const cli_option cli_request_options[];
extern const size_t cli_request_option_count;

/* For cli_parser.unknown: every field of the request is an option: --bpm 120, --guidance-scale 5, --instrumental,
 * --no-dcw-enabled. */
int cli_any_field(void *target, const char *name, const char *inline_value, const char *next, int *used,
                  ace_error *error);

/* For cli_parser.positional: the caption. */
bool cli_caption(void *target, const char *value, ace_error *error);

/* One line or two for each field but those that cli_request_options set. */
void cli_print_fields(void);

/* Fails with ACE_ERROR_USAGE. */
bool cli_misused(ace_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Fills in options->model from the environment or the usual places when it is not set. */
void cli_find_model(ace_engine_options *options);

/* ---- ending ---- */

/* Prints the error as one line on standard error, or as a JSON event on standard output. Returns its exit code. */
int cli_fail(const ace_error *error, bool json);

/* ---- Ctrl-C ---- */

/* From now on SIGINT, SIGTERM and SIGHUP stop the engine's running call; NULL: they act as usual. */
void cli_interrupt_stops(ace_engine *engine);

/* ---- progress ---- */

typedef struct cli_progress {
    bool json, quiet, terminal;
    double last; /* seconds at which the line was last drawn */
    ace_stage stage;
    bool begun, drawn;
    unsigned announced; /* stages named so far where there is no terminal: a bit each */
} cli_progress;

void cli_progress_begin(cli_progress *progress, bool json, bool quiet);
void cli_progress_show(cli_progress *progress, const ace_progress *p);
void cli_progress_warning(cli_progress *progress, const char *sentence);
void cli_progress_end(cli_progress *progress); /* clears the line */

/* What the library calls so that `progress` shows it. */
ace_callbacks cli_progress_callbacks(cli_progress *progress);

/* ---- text ---- */

/* Prints a JSON string literal, quotes included. */
void cli_json_string(const char *text);

/* "1:05" of seconds. */
const char *cli_minutes(double seconds, char buffer[32]);

/* A text file, "-" for standard input: UTF-8 without NUL, at most 1 MiB, CR LF and CR become LF, a byte order mark is
 * dropped. Caller frees. */
char *cli_read_text(const char *path, ace_error *error);

#endif
