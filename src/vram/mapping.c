#include "vram/mapping.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* A stretch of a text. */
typedef struct piece {
    const char *at;
    size_t n;
} piece;

static piece trimmed(piece p)
{
    while (p.n && strchr(" \t", *p.at)) p = (piece){p.at + 1, p.n - 1};
    while (p.n && strchr(" \t", p.at[p.n - 1])) p.n--;
    return p;
}

static bool is(piece p, const char *word)
{
    return p.n == strlen(word) && memcmp(p.at, word, p.n) == 0;
}

/* How much of a piece a message shows. */
static int shown(piece p)
{
    return p.n < 60 ? (int)p.n : 60;
}

/* The number of a card: digits only. -1 if it is none. */
static int card_number(piece p)
{
    int number = 0;
    for (size_t i = 0; i < p.n; i++) {
        if (p.at[i] < '0' || p.at[i] > '9') return -1;
        number = number * 10 + (p.at[i] - '0');
        if (number >= MAPPING_CARDS) return -1;
    }
    return p.n ? number : -1;
}

/* Splits "name:number" at the colon. False without one. */
static bool split(piece whole, piece *name, piece *number)
{
    const char *colon = whole.n ? memchr(whole.at, ':', whole.n) : NULL;
    if (!colon) return false;
    *name = (piece){whole.at, (size_t)(colon - whole.at)};
    *number = (piece){colon + 1, whole.n - name->n - 1};
    return true;
}

/* ---- --device ---- */

bool device_parse(const char *text, device_wish *wish, ace_error *error)
{
    static const char *const words[] = {"auto", "cpu", "cuda", "mps", "xpu"};
    piece whole = trimmed((piece){text ? text : "", text ? strlen(text) : 0}), name = whole, number = {"", 0};
    *wish = (device_wish){DEVICE_AUTO, -1};
    if (whole.n == 0) return true;
    bool numbered = split(whole, &name, &number), known = false;
    for (int i = 0; i < 5 && !known; i++) {
        known = is(name, words[i]);
        if (known) wish->word = (device_word)i;
    }
    if (!known)
        return ace_fail(error, ACE_ERROR_USAGE,
                        "the device cannot be '%.40s': choose auto, cpu, cuda or cuda:NUMBER (acestep gpu lists them)",
                        text);
    if (!numbered) return true;
    wish->index = card_number(number);
    bool takes_number = wish->word == DEVICE_CUDA || wish->word == DEVICE_XPU;
    if (wish->index < 0 || !takes_number)
        return ace_fail(error, ACE_ERROR_USAGE,
                        "the device cannot be '%.40s': the number behind the colon is that of a card, as in cuda:0",
                        text);
    return true;
}

/* A card that may be computed on: of compute capability 7.5 or newer, or one that does not say. */
static bool usable(const detect_device *device)
{
    int capability = device->capability[0] * 10 + device->capability[1];
    return device->kind == DETECT_NVIDIA && device->problem == DETECT_FINE && device->total_known &&
           (capability == 0 || capability >= 75);
}

/* The usable card with most free memory, `except` left out; -1 if there is none. A card that does not say what is free
 * counts with nothing. */
static int roomiest(const detect_machine *machine, int except)
{
    int best = -1;
    uint64_t most = 0;
    for (int i = 0; i < machine->count; i++) {
        const detect_device *d = &machine->devices[i];
        uint64_t free = d->free_known ? d->free : 0;
        if (i == except || !usable(d) || (best >= 0 && free <= most)) continue;
        best = i;
        most = free;
    }
    return best;
}

static int find_card(const detect_machine *machine, detect_kind kind, int number)
{
    for (int i = 0; i < machine->count; i++)
        if (machine->devices[i].kind == kind && machine->devices[i].number == number) return i;
    return -1;
}

/* Why there is no card `id`. Returns false. */
static bool no_such_card(const detect_machine *machine, const char *id, ace_error *error)
{
    char list[160] = "";
    for (int i = 0; i < machine->count; i++) {
        size_t used = strlen(list);
        if (usable(&machine->devices[i]))
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", machine->devices[i].id);
    }
    return ace_fail(error, ACE_ERROR_DEVICE,
                    "there is no device %s that can be used; usable cards: %s. `acestep gpu` "
                    "lists all devices and what is wrong with them",
                    id, *list ? list : "none");
}

bool device_choose(const detect_machine *machine, device_wish wish, int *index, ace_error *error)
{
    char id[32];
    int best = roomiest(machine, -1), cpu = machine->count - 1;
    *index = cpu;
    switch (wish.word) {
    case DEVICE_AUTO:
        if (best >= 0) *index = best;
        return true;
    case DEVICE_CPU:
        return true;
    case DEVICE_CUDA:
        if (wish.index >= 0) best = find_card(machine, DETECT_NVIDIA, wish.index);
        if (best >= 0 && usable(&machine->devices[best])) {
            *index = best;
            return true;
        }
        snprintf(id, sizeof id, "cuda:%d", wish.index);
        return no_such_card(machine, wish.index >= 0 ? id : "cuda", error);
    case DEVICE_MPS:
    case DEVICE_XPU:
        break;
    }
    return no_such_card(machine, wish.word == DEVICE_MPS ? "mps" : "xpu", error);
}

/* ---- --gpu-mapping ---- */

static const char *const part_names[MAPPING_PARTS] = {"dit", "vae", "text_encoder", "lm"};

const char *mapping_part_name(mapping_part part)
{
    return part_names[part];
}

static bool take_part(piece p, const char *text, gpu_mapping *mapping, ace_error *error)
{
    piece name, number;
    if (!split(p, &name, &number))
        return ace_fail(error, ACE_ERROR_USAGE,
                        "'%.*s' in the GPU mapping '%.80s' is not PART:NUMBER, as in dit:0,lm:1", shown(p), p.at, text);
    int part = 0, card = card_number(number);
    while (part < MAPPING_PARTS && !is(name, part_names[part])) part++;
    if (part == MAPPING_PARTS)
        return ace_fail(error, ACE_ERROR_USAGE,
                        "the GPU mapping '%.80s' names '%.*s': the parts are dit, vae, text_encoder and lm", text,
                        shown(name), name.at);
    if (card < 0)
        return ace_fail(error, ACE_ERROR_USAGE, "the GPU mapping '%.80s' gives %s no card number, as in %s:0", text,
                        part_names[part], part_names[part]);
    if (mapping->card[part] >= 0)
        return ace_fail(error, ACE_ERROR_USAGE, "the GPU mapping '%.80s' names %s twice", text, part_names[part]);
    mapping->card[part] = card;
    return true;
}

bool mapping_parse(const char *text, gpu_mapping *mapping, ace_error *error)
{
    piece whole = trimmed((piece){text ? text : "", text ? strlen(text) : 0}), name, number;
    *mapping = (gpu_mapping){MAPPING_AUTO, {-1, -1, -1, -1}};
    if (whole.n == 0 || (whole.n == 4 && strncasecmp(whole.at, "auto", 4) == 0)) return true;
    if (split(whole, &name, &number) && is(name, "single")) {
        int card = card_number(number);
        mapping->form = MAPPING_SINGLE;
        for (int i = 0; i < MAPPING_PARTS; i++) mapping->card[i] = card;
        return card >= 0 || ace_fail(error, ACE_ERROR_USAGE,
                                     "the GPU mapping '%.80s' must end in the number of a card: single:0", text);
    }
    mapping->form = MAPPING_EXPLICIT;
    for (piece rest = whole; rest.n;) {
        const char *comma = memchr(rest.at, ',', rest.n);
        size_t n = comma ? (size_t)(comma - rest.at) : rest.n;
        piece p = trimmed((piece){rest.at, n});
        rest = comma ? (piece){comma + 1, rest.n - n - 1} : (piece){"", 0};
        if (p.n && !take_part(p, text, mapping, error)) return false; /* the official program lets ",," pass */
    }
    if (mapping->card[MAPPING_DIT] < 0)
        return ace_fail(error, ACE_ERROR_USAGE,
                        "the GPU mapping '%.80s' does not say where the diffusion transformer runs: begin with dit:0",
                        text);
    for (int i = 0; i < MAPPING_PARTS; i++)
        if (mapping->card[i] < 0) mapping->card[i] = mapping->card[MAPPING_DIT];
    return true;
}

bool mapping_resolve(const gpu_mapping *mapping, const detect_machine *machine, int devices[MAPPING_PARTS],
                     ace_error *error)
{
    if (mapping->form == MAPPING_AUTO) {
        int best = roomiest(machine, -1), next = roomiest(machine, best), cpu = machine->count - 1;
        for (int i = 0; i < MAPPING_PARTS; i++) devices[i] = best >= 0 ? best : cpu;
        if (best >= 0 && next >= 0) devices[MAPPING_LM] = next;
        return true;
    }
    for (int i = 0; i < MAPPING_PARTS; i++) {
        char id[32];
        snprintf(id, sizeof id, "cuda:%d", mapping->card[i]);
        devices[i] = find_card(machine, DETECT_NVIDIA, mapping->card[i]);
        if (devices[i] < 0 || !usable(&machine->devices[devices[i]])) return no_such_card(machine, id, error);
    }
    return true;
}
