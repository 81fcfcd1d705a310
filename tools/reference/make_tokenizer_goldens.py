"""Writes the tokenizer's test data with Hugging Face `tokenizers`: tests/data/text and fuzz/corpus/tokenizer.

    make_tokenizer_goldens.py [path of Qwen3's tokenizer.json]

tokenizer.json   a small real tokenizer, trained here on samples.txt: 2,000 entries, Qwen3's normalizer, pre-tokenizer
                 and added tokens, 100 audio codes, and the embedding model's post-processor
goldens.json     strings and their ids, for the small tokenizer and, when its path is given, for Qwen3's
tokenizer.gguf   the same vocabulary and merges as GGUF metadata, without the added tokens, as acestep.cpp writes them
ranges.txt       the code points that random strings are made of
random.txt       one line for each block of 1,000 random strings or id lists: hashes of what the reference makes of them

The strings are made by the generator of tests/text/random_text.h, which this file repeats. Random code points are
restricted to those assigned in Unicode 14: implementations differ in how new their tables are.
"""

import json
import pathlib
import random
import struct
import sys
import unicodedata

import gguf
import numpy
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data/text"
CORPUS = ROOT / "fuzz/corpus/tokenizer"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>""".split()
PLAIN = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
<tool_response> </tool_response> <think> </think>""".split()
AUDIO_CODES = 100
VOCABULARY = 2000

# ---- the small tokenizer -------------------------------------------------------------------------------------------


def samples():
    lines = (DATA / "samples.txt").read_text(encoding="utf-8").splitlines()
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    text = list(samples().values())
    text += ["# Caption\n", "# Lyric\n", "  \n", "\n\n", "   ", " \t", "\r\n", "...!!!\n\n", "aaaaaaaaaaaaaaaa"] * 8
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in PLAIN])
    tokenizer.add_tokens([AddedToken(f"<|audio_code_{n}|>", normalized=False) for n in range(AUDIO_CODES)])
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False),
            processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]),
        ]
    )
    assert tokenizer.get_vocab_size(with_added_tokens=False) == VOCABULARY
    return tokenizer


def write_gguf(tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(DATA / "tokenizer.gguf", "acestep-text-enc")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].get))
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_tensor("one", numpy.ones(1, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- strings -------------------------------------------------------------------------------------------------------

# The table of spec/lm.md 9.3 but for its audio codes, which Qwen3's own file does not list.
SPEC = [
    ("bpm: 120\n", "65 5187 25 220 16 17 15 198"),
    ("keyscale: F♯ minor\n", "10563 2246 25 434 145346 8922 198"),
    ("B♭", "33 145761"),
    ("language: yue\n", "11528 25 379 361 198"),
    (
        "caption: It's a 'test': don't, DON'T, I'LL\n",
        "23347 25 1084 594 264 364 1944 1210 1513 944 11 44273 17323 11 358 6 4086 198",
    ),
    ("I'm we've you'll he'd it's", "40 2776 582 3003 498 3278 566 4172 432 594"),
    ("don’t", "15007 1405"),
    ("café", "924 58858"),
    ("cafe\u0301", "924 58858"),
    ("\u212b", "144044"),
    ("e\u0301\u0327", "148544 53839"),
    ("中文歌词 你好，世界", "104811 114355 220 108386 3837 99489"),
    ("日本語のテスト", "101059 102819 15767 140592"),
    ("한국어 가사", "23573 124785 31079 35509 55054"),
    ("русский текст", "129089 126302 70895"),
    ("हिन्दी गीत", "93948 42311 101 30484 99 43647 14925 245 43647 79238"),
    ("ไทย", "125451"),
    ("العربية", "31382 23224 125600"),
    ("😀🎵 emoji", "141334 145202 42365"),
    ("👩\u200d👩\u200d👧", "145233 378 235 145233 378 235 145665"),
    ("  two  spaces", "220 1378 220 12621"),
    ("tab\there", "6192 197 6739"),
    ("line\r\nbreak", "1056 319 8960"),
    ("a\u00a0b", "64 4102 65"),
    ("x\u3000y", "87 22441 88"),
    ("x\u2028y", "87 378 101 88"),
    ("a\u0085b", "64 126 227 65"),
    ("[Verse 1 - Soft]\n(oh-oh)\n\n\n[Chorus]\n", "58 68043 220 16 481 24079 921 7 2267 12 2267 3623 58 1143 29869 921"),
    ("123 4567", "16 17 18 220 19 20 21 22"),
    ("½ ² ٣", "26062 220 29456 220 149 96"),
    ("_under_score__", "58228 10405 563"),
    ("...!!!\n\nNext", "1112 32057 5847"),
    ("`code` ```block```", "63 1851 63 54275 4574 73594"),
    ("# Lyric\n\n[Instrumental]\n", "2 15953 2216 271 58 56324 278 921"),
    ("trailing   ", "376 14277 262"),
    ("\n\n \n", "271 715"),
    ("\n  indented", "198 220 1257 15864"),
    ("  \n x", "2303 856"),
    ("<|im_end|> inside <think> text</think>", "151645 4766 220 151667 1467 151668"),
    ("- bpm: 120\n- timesignature: 4\n", "12 97724 25 220 16 17 15 198 12 3039 622 1568 25 220 19 198"),
    ("ǅ ﬁ Ⅷ", "131 227 32495 70731 220 70467 100"),
    ("\ufeffbom", "3225 65 316"),
    ("Ａ１", "133054 20109"),
    ("NO USER INPUT", "8996 13872 26149"),
    (
        "<|im_start|>system\n# Instruction\nGenerate audio semantic tokens based on the given conditions:\n\n<|im_end|>\n"
        "<|im_start|>user\n",
        "151644 8948 198 2 29051 198 31115 7699 41733 11211 3118 389 279 2661 4682 1447 151645 198 151644 872 198",
    ),
    (
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n# Caption\nchill lofi beats\n\n"
        "# Metas\n- bpm: 120\n- timesignature: 4\n- keyscale: C major\n- duration: 30 seconds\n<|endoftext|>\n",
        "2 29051 198 14449 279 7699 41733 6911 3118 389 279 2661 4682 1447 2 37600 198 331 483 775 9983 33327 271 2 "
        "6212 300 198 12 97724 25 220 16 17 15 198 12 3039 622 1568 25 220 19 198 12 6894 2246 25 356 3598 198 12 8090 "
        "25 220 18 15 6486 198 151643 198",
    ),
    (
        "# Languages\nen\n\n# Lyric\n[Verse 1]\nla la la<|endoftext|>",
        "2 54964 198 268 271 2 15953 2216 198 58 68043 220 16 921 4260 1187 1187 151643",
    ),
    (
        "# Languages\nunknown\n\n# Lyric\n[Instrumental]<|endoftext|>",
        "2 54964 198 16088 271 2 15953 2216 198 58 56324 278 60 151643",
    ),
]

SPACES = [0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def strings():
    texts = ["", *(text for text, _ in SPEC), *samples().values()]
    texts += [unicodedata.normalize("NFD", text) for text in samples().values()]
    texts += ["\n".join(f"[{code}]\n{text}" for code, text in samples().items())]
    for c in map(chr, SPACES):
        texts += [f"a{c}b", f"a{c}{c} b", f"{c}\n{c}x", f" {c}1", f"!{c}\r\n", c * 3]
    texts += [chr(c) for c in range(256)]
    digits = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Nd" and unicodedata.decimal(chr(c)) < 2]
    texts += ["".join(digits), " ".join(digits), "a".join(digits)]
    for word in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'l", "'r", "'v", "'x", "'\u017f", "'\u212a", "''s", "’s"):
        texts += [f"it{word}", word, word.upper(), f"{word}x", f" {word}", f"!{word}", f"1{word}\n", f"{word.upper()}{word}"]
    for token in ("<|im_end|>", "<think>", "<|audio_code_7|>", "<|endoftext|>"):
        texts += [f"a{token}b", f" {token} ", f"{token}{token}", f"\n{token}\n", f"<{token}>", f"e{token}\u0301", f"{token}\u0338x"]
        texts += [token[:-1], token[1:], token.upper(), f"{token[:-1]}{token}"]
    texts += [f"<|audio_code_{n}|>" for n in ("0", "99", "100", "007", "00", "70000", "65534", "65535", "-1", "", "5 ", "99999999999")]
    texts += [
        "🇫🇷🇯🇵 👍🏽👍🏿 👨‍👩‍👧‍👦 ❤️‍🔥 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "a\u0301\u0327\u0345\u0334\u035c b\u0334\u0301",
        "\u1100\u1161\u11a8 \uac00\u11a8 \u1100\uac00 \u1161\u11a8 \u1112\u1175\u11c2",
        "\u0344\u0958\u2126\u2329\ufb1d\U0001d15e\U0002f800 \u0b47\u0b3e \u0b47\u0300\u0b3e",
        "Z\u0351\u036b\u0343\u036a\u0302\u036bA\u0334\u0335\u031cL\u0360G\u0321\u031b\u0300O\u0301",
        "\u202eright to left\u202c \u200f\u200e \u2066x\u2069 \ufeff\u200b\u00ad",
        "line one\r\nline two\rline three\n\r\n \r \n\t\n",
        "\x00\x01\x7f\x80\x9f \ufdd0\uffff\U0010ffff \ue000\U000f0000",
        "don't 'twas rock'n'roll y'all'd've o'clock L'Été",
        "x" * 300 + "ab" * 100 + "-" * 100 + "\n" * 40 + " " * 40,
        "https://example.org/a_b?c=1&d=%20#e  {\"key\": [1.5e-3, null]}\n\tif (a != b) { return; }\n",
    ]
    return list(dict.fromkeys(texts))


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


# ---- random strings: tests/text/random_text.h says the same in C ---------------------------------------------------

MASK = (1 << 64) - 1
MIXES = 7
BLOCKS, BLOCK = 105, 1000
DECODE_BLOCKS = 10
FRAGMENTS = [
    "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<|audio_code_", "|>", "0", "7", "99", "100", "007", "<", "|", ">",
    "</", "<|", "im_end", "\u0338", "\u0301", "e", " ", "\n", "<|audio_code_12|>", "é", "歌",
]
WORDS = ["'", "'", "'", "’", "s", "S", "\u017f", "t", "T", "r", "re", "VE", "v", "m", "l", "L", "ll", "d", "D", "e", "x", " ", "!", "1", "\n"]


class Generator:
    """SplitMix64 (Steele, Lea, Flood 2014)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 11) % n


def from_ranges(generator, ranges):
    first, last = ranges[generator.below(len(ranges))]
    return chr(first + generator.below(last - first + 1))


def random_text(generator, mix, assigned, marks):
    out = []
    for _ in range(1 + generator.below(40)):
        kind = generator.below(8)
        if mix == 0:  # nearly ASCII
            out.append(chr(generator.below(128)) if kind < 7 else chr(generator.below(0x250)))
        elif mix == 1:  # whitespace
            out.append(chr(SPACES[generator.below(len(SPACES))]) if kind < 4 else " \n\r\t  \n\r"[generator.below(8)] if kind < 6 else "a1!é"[generator.below(4)])
        elif mix == 2:  # everything
            out.append(from_ranges(generator, assigned))
        elif mix == 3:  # combining marks
            out.append(from_ranges(generator, marks) if kind < 5 else chr(0xC0 + generator.below(0x250 - 0xC0)) if kind < 7 else from_ranges(generator, assigned))
        elif mix == 4:  # Hangul
            first, count = [(0x1100, 19), (0x1161, 21), (0x11A7, 28), (0xAC00, 11172), (0x1100, 256), (0xA960, 29), (0xD7B0, 76), (0x300, 3)][kind]
            out.append(chr(first + generator.below(count)))
        elif mix == 5:  # added tokens and what resembles them
            out.append(FRAGMENTS[generator.below(len(FRAGMENTS))])
        else:  # contractions
            out.append(WORDS[generator.below(len(WORDS))])
    return "".join(out)


def ranges_of(points):
    ranges = []
    for c in points:
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return ranges


def fnv(data, state=0xCBF29CE484222325):
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def pack(ids):
    return struct.pack(f"<{len(ids) + 1}i", len(ids), *ids)


def hash_block(generator, mix, tokenizers, assigned, marks):
    """For each tokenizer: the hash of all ids, and of what they decode to."""
    texts = [random_text(generator, mix, assigned, marks) for _ in range(BLOCK)]
    columns = []
    for tokenizer in tokenizers:
        ids = [ids_of(tokenizer, text) for text in texts]
        back = [tokenizer.decode(i, skip_special_tokens=False) for i in ids]
        columns.append(f"{fnv(b''.join(map(pack, ids))):016x} {fnv(b''.join(t.encode() + bytes([0]) for t in back)):016x}")
    return columns


def hash_decode_block(seed, tokenizer):
    """Random id lists, which are no valid UTF-8: the hash of what they decode to."""
    generator, state = Generator(seed), bytearray()
    for _ in range(BLOCK):
        ids = [generator.below(256 if generator.below(2) else tokenizer.get_vocab_size()) for _ in range(1 + generator.below(20))]
        state += tokenizer.decode(ids, skip_special_tokens=False).encode() + b"\0"
    return f"{fnv(state):016x}"


# ---- fuzz seeds ----------------------------------------------------------------------------------------------------


def write_seeds(tokenizer, texts):
    """The first byte says what follows: 'j' a tokenizer.json, 't' a text, 'd' ids to decode."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    full = json.loads(tokenizer.to_str())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    small = {
        "added_tokens": full["added_tokens"][:1] + full["added_tokens"][26:28],
        "normalizer": full["normalizer"],
        "pre_tokenizer": full["pre_tokenizer"],
        "post_processor": full["post_processor"],
        "decoder": full["decoder"],
        "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate([*alphabet, "ab", "abc", "Ġa"])}, "merges": [["a", "b"], ["ab", "c"], ["Ġ", "a"]]},
    }
    for i, token in enumerate(small["added_tokens"]):
        token["id"] = 259 + i
    small["post_processor"]["processors"][1]["special_tokens"]["<|endoftext|>"]["ids"] = [259]
    variants = {"pairs": small}
    variants["lines"] = {**small, "post_processor": None, "model": {**small["model"], "merges": ["a b", "ab c", "Ġ a"]}}
    variants["merges_first"] = {**small, "model": {"merges": small["model"]["merges"], "vocab": small["model"]["vocab"]}}
    for name, value in variants.items():
        ascii_only = name == "lines"
        text = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
        (CORPUS / f"json_{name}").write_bytes(b"j" + text.encode())
    (CORPUS / "json_nested").write_bytes(b"j" + b'{"a":' + b"[" * 40)
    chooser = random.Random(1)
    for i, text in enumerate(chooser.sample(texts, 24)):
        (CORPUS / f"text_{i}").write_bytes(b"t" + text.encode())
    (CORPUS / "ids").write_bytes(b"d" + bytes(range(256)))


# ---- all of it -----------------------------------------------------------------------------------------------------


def main():
    assert unicodedata.unidata_version == "14.0.0", "run with a Python whose unicodedata is Unicode 14 (3.11)"
    small = train()
    (DATA / "tokenizer.json").write_text(
        json.dumps(json.loads(small.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    small = Tokenizer.from_file(str(DATA / "tokenizer.json"))
    normalized = json.loads(small.to_str())
    for token in normalized["added_tokens"]:
        token["normalized"] = True
    normalized = Tokenizer.from_str(json.dumps(normalized))
    write_gguf(small)
    qwen3 = Tokenizer.from_file(sys.argv[1]) if len(sys.argv) > 1 else None
    if qwen3:
        for text, ids in SPEC:
            assert ids_of(qwen3, text) == [int(i) for i in ids.split()], text

    texts = strings()
    goldens = []
    for text in texts:
        golden = {"text": text, "small": ids_of(small, text), "normalized": ids_of(normalized, text)}
        golden["back"] = small.decode(golden["small"], skip_special_tokens=False)
        if qwen3 and "<|audio_code_" not in text:
            golden["qwen3"] = ids_of(qwen3, text)
        goldens.append(golden)
    lines = ",\n".join(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) for golden in goldens)
    (DATA / "goldens.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    assigned = ranges_of(c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs") or c & 0xFFFE == 0xFFFE)
    marks = ranges_of(c for c in range(0x110000) if unicodedata.combining(chr(c)))
    listing = [f"assigned {first:x} {last:x}\n" for first, last in assigned]
    listing += [f"mark {first:x} {last:x}\n" for first, last in marks]
    (DATA / "ranges.txt").write_text("".join(listing), encoding="utf-8")

    lines = []
    tokenizers = [small, qwen3] if qwen3 else [small]
    for block in range(BLOCKS):
        columns = hash_block(Generator(block), block % MIXES, tokenizers, assigned, marks)
        lines.append(f"encode {block} {' '.join(columns)}\n")
    for block in range(DECODE_BLOCKS):
        lines.append(f"decode {block} {hash_decode_block(1000 + block, small)}\n")
    (DATA / "random.txt").write_text("".join(lines), encoding="utf-8")
    write_seeds(small, texts)


if __name__ == "__main__":
    main()
