/* bpe.c - a small tokenizer.json in the manner of Qwen's: the same normaliser, pre-tokenizer, added tokens and
 * post-processor (lm.md 1.5, 2.1-2.5), but a vocabulary that is learned here from a few sentences. */
#include "tiny.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

enum { BYTES = 256, MERGES = 256, LEARNED = BYTES + MERGES, ADDED = 26, SEPARATOR = -1 };

/* What to learn from: the prompts' fixed words, and a line or two in several scripts, so that some merges cross the
 * bytes of one character and some the characters of a word. */
static const char *const corpus[] = {
    "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n# Caption\n",
    "Generate audio semantic tokens based on the given conditions:\n\n# Metas\n- bpm: 120\n- timesignature: 4\n",
    "- keyscale: C major\n- keyscale: A minor\n- duration: 30 seconds\n- bpm: N/A\n- timesignature: N/A\n",
    "Repaint the mask area based on the given conditions:\nExtract the VOCALS track from the audio:\n",
    "Generate the DRUMS track based on the audio context:\nComplete the input track with GUITAR | BASS:\n",
    "# Languages\nen\n\n# Lyric\n[Intro]\n[Verse 1]\n[Verse 2]\n[Pre-Chorus]\n[Chorus]\n[Bridge]\n[Outro]\n",
    "[Instrumental]\n[Guitar Solo]\n# Languages\nunknown\n\n# Lyric\n",
    "upbeat city pop with a warm female vocal, slap bass and bright synth brass, upbeat and sunny\n",
    "slow piano ballad, soft male vocal, strings, late at night in the rain\n",
    "heavy rock song with loud guitars, fast drums and a strong female vocal, energetic\n",
    "chill lofi beats with vinyl noise, dreamy keyboard, a slow groove and no vocal\n",
    "I walk along the river while the city is asleep\nI'm counting all the promises we didn't want to keep\n",
    "And the light, the light is turning on the water and the stone\nyou're singing in the morning, I'll be singing on "
    "my own\n",
    "We don't know where the road will go, we've never been before\nbut the night is at the window and the day is at "
    "the door\n",
    "oh oh oh, la la la, hey hey hey, na na na, yeah yeah yeah\n",
    "Die Nacht ist still, das Licht ist weit, wir singen durch die lange Zeit\nüber Straßen, über Flüsse\n",
    "La nuit est là, la lumière s'éteint, je chante encore jusqu'au matin, déjà l'été\n",
    "El corazón canta y la niña baila, mañana será otra canción\n",
    "ночь над рекой, свет над водой, я пою, ты со мной\n",
    "夜の街に光が流れる、君の歌が聞こえる、夜の歌\n",
    "夜晚的城市，灯光在流动，我在唱歌，你在听歌\n",
    "밤의 노래, 너의 노래, 우리의 밤\n",
    "रात का गीत, नदी का गीत, तुम गाओ\n",
    "أغني في الليل، أغني لك، يا ليل\n",
};

static const char *const added[ADDED] = {
    "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",      "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>",  "<|box_end|>",    "<|quad_start|>",  "<|quad_end|>",         "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",   "<|video_pad|>",        "<tool_call>",
    "</tool_call>",   "<|fim_prefix|>", "<|fim_middle|>",  "<|fim_suffix|>",       "<|fim_pad|>",
    "<|repo_name|>",  "<|file_sep|>",   "<tool_response>", "</tool_response>",     "<think>",
    "</think>",
};
enum { FIRST_ORDINARY = 14 }; /* the added tokens from here on are not "special" */

struct tiny_bpe {
    char *tokens[LEARNED]; /* the bytes of each token */
    size_t lengths[LEARNED];
    int left[MERGES], right[MERGES];
    int count; /* tokens so far */
};

void tiny_bpe_free(tiny_bpe *bpe)
{
    if (bpe == NULL) return;
    for (int i = 0; i < bpe->count; i++) free(bpe->tokens[i]);
    free(bpe);
}

int tiny_bpe_vocab_size(const tiny_bpe *bpe)
{
    return bpe->count + ADDED;
}

/* The code point that stands for a byte (lm.md 2.4): itself where printable, else the next from U+0100 on. */
static bool printable(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static int code_point(int byte)
{
    int others = 0;
    if (printable(byte)) return byte;
    for (int b = 0; b < byte; b++) others += !printable(b);
    return 0x100 + others;
}

/* ---- learning ---- */

static bool add_token(tiny_bpe *bpe, const char *a, size_t na, const char *b, size_t nb, ace_error *error)
{
    char *bytes = ace_calloc(na + nb, 1, "a token", error);
    if (bytes == NULL) return false;
    memcpy(bytes, a, na);
    if (nb > 0) memcpy(bytes + na, b, nb);
    bpe->tokens[bpe->count] = bytes;
    bpe->lengths[bpe->count++] = na + nb;
    return true;
}

/* Ids 0..255 are the bytes in the order of their code points. `id_of` gets the inverse. */
static bool add_bytes(tiny_bpe *bpe, int id_of[BYTES], ace_error *error)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int byte = 0; byte < BYTES; byte++) {
            if (printable(byte) != (pass == 0)) continue;
            id_of[byte] = bpe->count;
            char value = (char)(uint8_t)byte;
            if (!add_token(bpe, &value, 1, NULL, 0, error)) return false;
        }
    }
    return true;
}

typedef enum piece_class { LETTER, DIGIT, SPACE, NEWLINE, OTHER } piece_class;

static piece_class class_of(uint8_t c)
{
    if (c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return LETTER;
    if (c >= '0' && c <= '9') return DIGIT;
    if (c == ' ') return SPACE;
    return c == '\n' ? NEWLINE : OTHER;
}

/* Whether a piece begins at byte i: a rough copy of the pre-tokenizer, enough to learn merges that it lets happen. */
static bool piece_begins(const char *text, size_t i)
{
    if (i == 0) return true;
    piece_class before = class_of((uint8_t)text[i - 1]), here = class_of((uint8_t)text[i]);
    if (here == DIGIT || before == DIGIT) return true;
    if (here == NEWLINE) return before == LETTER || before == SPACE;
    return before != here && before != SPACE;
}

/* The corpus as byte tokens, a SEPARATOR before each piece. Returns the number of symbols. */
static size_t read_corpus(const int id_of[BYTES], int *symbols)
{
    size_t n = 0;
    for (size_t line = 0; line < sizeof corpus / sizeof *corpus; line++) {
        for (size_t i = 0; corpus[line][i] != '\0'; i++) {
            if (piece_begins(corpus[line], i)) symbols[n++] = SEPARATOR;
            symbols[n++] = id_of[(uint8_t)corpus[line][i]];
        }
    }
    return n;
}

static size_t corpus_bytes(void)
{
    size_t n = 0;
    for (size_t line = 0; line < sizeof corpus / sizeof *corpus; line++) n += strlen(corpus[line]);
    return n;
}

/* Whether the bytes of a followed by b are a token already: then the pair may not become another one. */
static bool known(const tiny_bpe *bpe, int a, int b)
{
    for (int i = 0; i < bpe->count; i++) {
        if (bpe->lengths[i] == bpe->lengths[a] + bpe->lengths[b] &&
            memcmp(bpe->tokens[i], bpe->tokens[a], bpe->lengths[a]) == 0 &&
            memcmp(bpe->tokens[i] + bpe->lengths[a], bpe->tokens[b], bpe->lengths[b]) == 0) {
            return true;
        }
    }
    return false;
}

/* The most frequent new pair, the one with the lowest ids among equals. `counts` has LEARNED * LEARNED places. */
static bool best_pair(const tiny_bpe *bpe, const int *symbols, size_t n, int *counts, int *left, int *right)
{
    int most = 1; /* a pair seen once teaches nothing */
    memset(counts, 0, sizeof *counts * LEARNED * LEARNED);
    for (size_t i = 0; i + 1 < n; i++) {
        if (symbols[i] != SEPARATOR && symbols[i + 1] != SEPARATOR) counts[symbols[i] * LEARNED + symbols[i + 1]]++;
    }
    for (int a = 0; a < bpe->count; a++) {
        for (int b = 0; b < bpe->count; b++) {
            if (counts[a * LEARNED + b] > most && !known(bpe, a, b)) {
                most = counts[a * LEARNED + b];
                *left = a;
                *right = b;
            }
        }
    }
    return most > 1;
}

/* Replaces every a b by the token `merged`, left to right. Returns the new number of symbols. */
static size_t merge(int *symbols, size_t n, int a, int b, int merged)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        bool pair = symbols[i] == a && i + 1 < n && symbols[i + 1] == b;
        symbols[out++] = pair ? merged : symbols[i];
        i += pair;
    }
    return out;
}

tiny_bpe *tiny_bpe_learn(ace_error *error)
{
    int id_of[BYTES], left = 0, right = 0;
    tiny_bpe *bpe = ace_calloc(1, sizeof *bpe, "the tokenizer", error);
    int *symbols = ace_calloc(2 * corpus_bytes(), sizeof *symbols, "the corpus", error);
    int *counts = ace_calloc((size_t)LEARNED * LEARNED, sizeof *counts, "the pair counts", error);
    bool ok = bpe != NULL && symbols != NULL && counts != NULL && add_bytes(bpe, id_of, error);
    size_t n = ok ? read_corpus(id_of, symbols) : 0;
    for (int i = 0; ok && i < MERGES; i++) {
        if (!best_pair(bpe, symbols, n, counts, &left, &right)) {
            ok = ace_fail(error, ACE_ERROR_INTERNAL, "the corpus is too small for %d merges", MERGES);
            break;
        }
        bpe->left[i] = left;
        bpe->right[i] = right;
        n = merge(symbols, n, left, right, bpe->count);
        ok = add_token(bpe, bpe->tokens[left], bpe->lengths[left], bpe->tokens[right], bpe->lengths[right], error);
    }
    free(symbols);
    free(counts);
    if (!ok) {
        tiny_bpe_free(bpe);
        return NULL;
    }
    return bpe;
}

/* ---- writing ---- */

/* A token in the byte alphabet, whose code points are below U+0800. */
static void put_token(ace_text *out, const tiny_bpe *bpe, int id, bool json)
{
    for (size_t i = 0; i < bpe->lengths[id]; i++) {
        int point = code_point((uint8_t)bpe->tokens[id][i]);
        if (json && (point == '"' || point == '\\')) ace_text_add(out, "\\");
        if (point < 0x80) {
            ace_text_format(out, "%c", point);
        } else {
            ace_text_format(out, "%c%c", 0xc0 | (point >> 6), 0x80 | (point & 0x3f));
        }
    }
}

void tiny_bpe_token(ace_text *out, const tiny_bpe *bpe, int id)
{
    put_token(out, bpe, id, false);
}

void tiny_bpe_merge(ace_text *out, const tiny_bpe *bpe, int rank)
{
    put_token(out, bpe, bpe->left[rank], false);
    ace_text_add(out, " ");
    put_token(out, bpe, bpe->right[rank], false);
}

int tiny_bpe_merge_count(const tiny_bpe *bpe)
{
    return bpe->count - BYTES;
}

int tiny_bpe_token_count(const tiny_bpe *bpe)
{
    return bpe->count;
}

static void json_token(ace_text *json, const tiny_bpe *bpe, int id)
{
    ace_text_add(json, "\"");
    put_token(json, bpe, id, true);
    ace_text_add(json, "\"");
}

static void json_added_token(ace_text *json, int id, const char *content, bool special)
{
    ace_text_format(json,
                    "\n    {\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
                    "\"rstrip\": false, \"normalized\": false, \"special\": %s}",
                    id, content, special ? "true" : "false");
}

static void json_added_tokens(ace_text *json, int first_id, int audio_codes)
{
    char code[32];
    ace_text_add(json, "  \"added_tokens\": [");
    for (int i = 0; i < ADDED; i++) {
        if (i > 0) ace_text_add(json, ",");
        json_added_token(json, first_id + i, added[i], i < FIRST_ORDINARY);
    }
    for (int i = 0; i < audio_codes; i++) {
        snprintf(code, sizeof code, "<|audio_code_%d|>", i);
        ace_text_add(json, ",");
        json_added_token(json, first_id + ADDED + i, code, true);
    }
    ace_text_add(json, "\n  ],\n");
}

static void json_byte_level(ace_text *json)
{
    ace_text_add(json, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, "
                       "\"use_regex\": false}");
}

/* Appends <|endoftext|> to every text. */
static void json_template(ace_text *json, const tiny_bpe *bpe)
{
    ace_text_format(json,
                    ",\n    {\"type\": \"TemplateProcessing\",\n"
                    "     \"single\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
                    "{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 0}}],\n"
                    "     \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
                    "{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 0}}, "
                    "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}, "
                    "{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 1}}],\n"
                    "     \"special_tokens\": {\"%s\": {\"id\": \"%s\", \"ids\": [%d], \"tokens\": [\"%s\"]}}}",
                    added[0], added[0], added[0], added[0], added[0], bpe->count, added[0]);
}

static void write_json(ace_text *json, const tiny_bpe *bpe, bool appends, int audio_codes)
{
    ace_text_add(json, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    json_added_tokens(json, bpe->count, audio_codes);
    ace_text_add(json, "  \"normalizer\": {\"type\": \"NFC\"},\n"
                       "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
                       "    {\"type\": \"Split\", \"pattern\": {\"Regex\": "
                       "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
                       "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, "
                       "\"behavior\": \"Isolated\", \"invert\": false},\n    ");
    json_byte_level(json);
    ace_text_add(json, "\n  ]},\n  \"post_processor\": {\"type\": \"Sequence\", \"processors\": [\n    ");
    json_byte_level(json);
    if (appends) json_template(json, bpe);
    ace_text_add(json, "\n  ]},\n  \"decoder\": ");
    json_byte_level(json);
    ace_text_add(json, ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
                       "    \"continuing_subword_prefix\": \"\",\n    \"end_of_word_suffix\": \"\",\n"
                       "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n"
                       "    \"vocab\": {");
    for (int i = 0; i < bpe->count; i++) {
        ace_text_add(json, i > 0 ? ",\n      " : "\n      ");
        json_token(json, bpe, i);
        ace_text_format(json, ": %d", i);
    }
    ace_text_add(json, "\n    },\n    \"merges\": [");
    for (int i = 0; i < MERGES; i++) {
        ace_text_add(json, i > 0 ? ",\n      [" : "\n      [");
        json_token(json, bpe, bpe->left[i]);
        ace_text_add(json, ", ");
        json_token(json, bpe, bpe->right[i]);
        ace_text_add(json, "]");
    }
    ace_text_add(json, "\n    ]\n  }\n}\n");
}

void tiny_bpe_json(ace_text *json, const tiny_bpe *bpe)
{
    write_json(json, bpe, true, 0);
}

void tiny_bpe_planner_json(ace_text *json, const tiny_bpe *bpe)
{
    write_json(json, bpe, false, TINY_AUDIO_CODES);
}

void tiny_bpe_planner_added_json(ace_text *json, const tiny_bpe *bpe)
{
    for (int i = 0; i < ADDED; i++)
        ace_text_format(json, "%s\n  \"%s\": %d", i > 0 ? "," : "{", added[i], bpe->count + i);
    for (int i = 0; i < TINY_AUDIO_CODES; i++)
        ace_text_format(json, ",\n  \"<|audio_code_%d|>\": %d", i, bpe->count + ADDED + i);
    ace_text_add(json, "\n}\n");
}
