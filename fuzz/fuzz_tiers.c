/* What a user may write about the machine. The first byte says what the rest is: a tier file (t), a GPU mapping (m), a
 * device (d), an amount of memory (s), or a text in which a place is looked up (p). */
#include "vram/json_place.h"
#include "vram/limits.h"
#include "vram/mapping.h"
#include "vram/simulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

/* ---- tier files ---- */

static void check_limits(const tier *t)
{
    limits_basis basis = {t, 10, LIMITS_CARD};
    limits_result result;
    for (int with_lm = 0; with_lm < 2; with_lm++) {
        limits_request(&basis, with_lm, 600, LIMITS_ASKED, 8, &result);
        require(result.duration >= 10 && result.duration <= 600, "durations are possible");
        require(result.batch >= 1 && result.batch <= 8, "batches are possible");
        require((result.duration < 600) == (result.duration_warning[0] != '\0'), "a shorter song is told");
        require((result.batch < 8) == (result.batch_warning[0] != '\0'), "a smaller batch is told");
    }
    require(!t->init_lm || t->lm_model != TIERS_LM_NONE, "what is started is named");
    require(t->lm_model == TIERS_LM_NONE || t->lm_models & 1u << t->lm_model, "what is recommended is offered");
}

static void check_profile(const tiers_profile *profile, int lines)
{
    const tier *before = &profile->tiers[0], *literal_before = before;
    for (double gib = 0.01; gib < 2e6; gib *= 1.01) {
        const tier *t = tiers_select(profile, gib, false), *literal = tiers_select(profile, gib, true);
        require(t >= before && literal >= literal_before, "more memory is never a lower tier");
        require(t >= literal && t - literal <= 1, "the tolerance reaches one tier up");
        before = t;
        literal_before = literal;
    }
    for (int i = 0; i < profile->count; i++) {
        check_limits(&profile->tiers[i]);
        for (tiers_key key = 0; key < TIERS_KEY_COUNT; key++) {
            tiers_place place = profile->tiers[i].places[key];
            require(place.line >= 0 && place.line <= lines && place.column >= 0, "places lie in the file");
        }
    }
}

static void use_tiers(const char *text, size_t n)
{
    ace_error error = {0};
    tiers_table *table = tiers_parse(text, n, "fuzz.json", &error);
    if (!table) {
        require(error.status == ACE_ERROR_FORMAT, "a broken file is a broken file");
        require(strncmp(error.message, "fuzz.json", 9) == 0, "the file is named");
        return;
    }
    int lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    for (int i = 0; i < TIERS_PROFILES; i++) check_profile(&table->profiles[i], lines);
    require(tiers_find_profile(table, NULL, NULL) != NULL, "the default profile exists");
    tiers_free(table);
}

/* ---- short texts ---- */

static void use_mapping(const char *text)
{
    gpu_mapping mapping, again;
    char written[128];
    ace_error error = {0};
    if (!mapping_parse(text, &mapping, &error)) {
        require(error.status == ACE_ERROR_USAGE, "a wrong mapping is the user's");
        return;
    }
    if (mapping.form == MAPPING_AUTO) return;
    for (int i = 0; i < MAPPING_PARTS; i++)
        require(mapping.card[i] >= 0 && mapping.card[i] < MAPPING_CARDS, "cards have numbers");
    snprintf(written, sizeof written, "dit:%d,vae:%d,text_encoder:%d,lm:%d", mapping.card[0], mapping.card[1],
             mapping.card[2], mapping.card[3]);
    require(mapping_parse(written, &again, &error), "a mapping can be written");
    require(memcmp(again.card, mapping.card, sizeof mapping.card) == 0, "and read again");
}

static void use_device(const char *text)
{
    device_wish wish;
    ace_error error = {0};
    int index;
    detect_machine machine = {.count = 1};
    if (device_parse(text, &wish, &error)) {
        if (device_choose(&machine, wish, &index, &error)) require(index == 0, "the CPU is all there is");
    } else {
        require(error.status == ACE_ERROR_USAGE, "a wrong device is the user's");
    }
}

static void use_place(const char *text, size_t n)
{
    int line = 0, column = 0;
    json_path path = {{"profiles", "seed", "tiers", "tier4", "max_batch_with_lm"}, 5};
    for (; path.count >= 0; path.count--) {
        json_place(text, n, &path, path.count & 1, &line, &column);
        require(line >= 1 && column >= 1 && (size_t)line + (size_t)column <= n + 2, "a place lies in the text");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0 || n > 1 << 16) return 0;
    const char *bytes = (const char *)data + 1;
    char *text = malloc(n);
    if (!text) return 0;
    memcpy(text, bytes, n - 1);
    text[n - 1] = '\0';
    double gib = 0;
    if (data[0] == 't') use_tiers(bytes, n - 1);
    if (data[0] == 'p') use_place(bytes, n - 1);
    if (data[0] == 'm') use_mapping(text);
    if (data[0] == 'd') use_device(text);
    if (data[0] == 's' && simulate_parse(text, &gib)) require(gib > 0 && gib <= 1048576, "an amount is an amount");
    free(text);
    return 0;
}
