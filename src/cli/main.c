#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "acestep - songs from captions, with ACE-Step 1.5 checkpoints, without Python\n"
    "\n"
    "  acestep \"upbeat city pop, female vocal\" --lyrics l.txt --duration 60 -o song.flac\n"
    "\n"
    "Commands\n"
    "  generate   make a song (the default: the word may be left out)\n"
    "  write      an idea becomes caption, lyrics and metadata\n"
    "  format     a draft becomes structured lyrics with metadata\n"
    "  understand a recording becomes caption, lyrics, metadata and audio codes\n"
    "  doctor     check this computer, the model files, and the program itself\n"
    "  plan       show what memory a song would take, stage by stage, and about how long\n"
    "  gpu        show devices, memory, tier, limits and settings\n"
    "  tier-test  show and measure what each size of memory can do\n"
    "  bench      measure every stage at the real model's size, with random weights\n"
    "  version    print the version\n"
    "\n"
    "`acestep COMMAND --help` explains a command by example.\n"
    "Exit codes: 0 done, 2 wrong request or option, 3 file cannot be read or written, 4 damaged file,\n"
    "  5 unusable checkpoint, 6 not enough memory, 7 the model gave no music, 8 no such device, 70 a bug, 130 "
    "stopped.\n";

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        int (*run)(int count, char **arguments);
    } commands[] = {{"generate", command_generate},
                    {"write", command_write},
                    {"format", command_format},
                    {"understand", command_understand},
                    {"bench", command_bench},
                    {"doctor", command_doctor},
                    {"gpu", command_gpu},
                    {"plan", command_plan},
                    {"tier-test", command_tier_test}};
    if (count < 2 || strcmp(arguments[1], "help") == 0 || strcmp(arguments[1], "--help") == 0 ||
        strcmp(arguments[1], "-h") == 0) {
        fputs(usage, stdout);
        return count < 2 ? ACE_ERROR_USAGE : 0;
    }
    if (strcmp(arguments[1], "version") == 0 || strcmp(arguments[1], "--version") == 0) {
        printf("acestep %s\n", ace_version());
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(arguments[1], commands[i].name) == 0) return commands[i].run(count - 2, arguments + 2);
    return command_generate(count - 1, arguments + 1);
}
