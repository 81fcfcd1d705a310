"""Writes the reference values of the planner's prompts, YAML and parser with the official program's own functions.

    make_lm_prompt_goldens.py --official CHECKOUT --tokenizer DIRECTORY [--blocks 12] [--out tests/data/lm]

text-fragments.json     what random texts are made of
text-examples.json      the first cases of each kind in full
yaml.txt, parse.txt, prompt.txt
                        one hash (FNV-1a, 64 bits) for each block of 1,000 random cases
fuzz/corpus/lm_parse    random answers, to start the parser's fuzzer from

DIRECTORY holds Qwen3's tokenizer_config.json, whose chat template is used. The cases are made by the generator of
tests/lm/random_case.h, which this file repeats. A whole request runs through the official generate_music(), with a
language model that answers random text and a DiT that only looks at what it is given.

Three things are kept out, because the official program crashes on them: text made only of superscript digits, a request
without any metadata that also forbids planning them, and numbers of thousands of digits. What the C program reads
differently on purpose is written in its terms here: NUL as U+FFFD, integers beyond 64 bits as text, tempos and lengths
that are not positive finite numbers as unknown, and an answer without any metadata as an error (which the official program
reports for understanding only, and there only without lyrics).
"""

import argparse
import importlib.util
import json
import math
import pathlib
import sys
import types

import yaml
from loguru import logger
from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = 1000
MASK = (1 << 64) - 1

# ---- what random texts are made of ---------------------------------------------------------------------------------

LISTS = {
    "space": [" "] * 12 + ["  ", "   ", "\n", "\t", "\u00a0", "\u3000", " \n", "\n ", "\n\n", "\u2028", "\u0085", ", "],
    "words": "a the calm piano piece with soft strings and heavy guitars builds slowly into an anthemic chorus voice's "
    "don't (live) café naïve Motörhead 中文 歌词 日本語のテスト 한국어 русский हिन्दी العربية 😀🎵 emoji lo-fi 808s "
    "http://x.y 12:30 C#m reverberation supercalifragilisticexpialidocious key=value [Verse] <b> & | > % @ ` * ! ? - ~".split(" "),
    "punct": [": ", ":", " #", "#", "'", '"', "''", "- ", "-", "? ", "\\", "\\n", ",", "[", "]", "{", "}", "&", "*", "!", "|",
              ">", "%", "@", "`", "---", "...", "=", "<<", "~", "\r", "\r\n", "\x07", "\x1b", "\x1f", "\x7f", "\x80", "\u0085",
              "\u2028", "\u2029", "\ufeff", "\ufffe", "\U0010ffff", "\u200b", "\u00ad", "\n", " \n", "\n ", "  ", ":\n", ":\t"],
    "chars": list("0123456789012345::::....__--++eExXobTtZ ~=<ynoNfs/#abc"),
    "atoms": "yes Yes YES no No NO true True TRUE false False FALSE on On ON off Off OFF y n oN null Null NULL nUll ~ = << <<< 0 "
    "00 007 08 0x1F 0xg 0b101 0b2 0o7 1_000 _1 1_ +1 -1 +-1 1.5 1. .5 -.5 1e3 1.e3 1.0e+3 1.0e3 1_0.0_1 .inf -.Inf +.INF .nan "
    ".NAN -.nan 1:30 1:60 12:30:45 0:30 1:3:5.5 1:30.5 -1:30 2024-05-01 2024-5-1 2024-05-01T12:30:45 2024-05-01t1:02:03.5Z "
    "2024-5-1\t1:02:03+1:00 2024-5-1\t1:2:03 120 120.5 N/A n/a 4/4 3/4 6/8 /4 x/4/4 F#\u00a0minor 30.0 1e400 nan inf "
    "infinity 1_0e1_0 ١٢٣ １２０ +５ ५".split(" ")
    + ["2024-05-01 12:30:45", "2024-5-1  1:02:03 -05:30", "2024-5-1 1:02:03.", "2024-5-1 1:02:03Z", "F# minor", " 120 ", "\u2003120\u2003"],
    "digits": list("0123456789") + ["٣", "५", "９", "𝟘", "𝟿", "𑁦", "_", " ", "-"],
    "language": ["", "en", "zh", "unknown", "Unknown", "un\u212anown", " fr ", "no", "xx", "\u3000", "yue", "N/A"],
    "keyscale": ["", "", "", "C major", "F# minor", "B\u266d major", "n/a", " N/A ", " ", "Am", "E\u266f minor\u00a0", "H moll"],
    "timesignature": ["", "", "", "4", "4/4", "3/4", "6/8", " 4/4 ", "12/8", "N/a", "/4", "3/4/4", "\u0664", "04", "7"],
    "negative": ["NO USER INPUT", "", " NO USER INPUT\n", "low quality, distorted", "  \n", " blurry ", "no user input"],
    # an answer in order, each piece now and then lost, doubled or replaced
    "answer": ["<think>", "\n", "bpm:", " ", "120", "\n", "caption:", " ", "@", "\n", "  ", "@", "\n", "duration:", " ", "154",
               "\n", "genres:", " ", "Neoclassical", "\n", "keyscale:", " ", "F# minor", "\n", "language:", " ", "en", "\n",
               "timesignature:", " ", "4", "\n", "</think>", "\n\n", "# Lyric", "\n", "@", "\n", "<|audio_code_17|>",
               "<|audio_code_63999|>", "<|im_end|>"],
    "noise": ["<think>", "</think>", "<reasoning>", "</reasoning>", "<|audio_code_", "|>", "<|audio_code_1|>", "7", "٣", "70000",
              "<|audio_code_70000|>", "<|audio_code_00|>", "<|audio_code_٣|>", "<|audio_code_99999999999999999999|>", "<|im_end|>",
              "<|im_end|> ", "<|endoftext|>", "\n", "\n\n", " ", "\t", "\n  ", "\n\t", "\r\n", "\u00a0", "\u0085", "\x1c", ":", " : ",
              "::", "BPM : ", "Bpm:", "\u212aeyscale: ", "KEYSCALE:", "caption: '", "caption: \"", "'", "''", "\"", "\\", "Duration: 20s",
              "duration: 12.5", "duration: 1_0", "duration: nan", "bpm: +1_0", "bpm: -5", "bpm: ９０", "bpm: 0", "bpm: N/A",
              "bpm:\n  100", "mood: sad", "note", "<b>", "  <b>x</b>", "language: 'no'", "keyscale: N/A", "timesignature: 6/8",
              "timesignature: 3/4", "caption:", "genres:", "@", "#", "# Lyric\n", "#lyric\n", "# Lyrics\n", "# Lyri|\n", "# LYR\u0130\n",
              "# l\u0131\n", "#\n Lyri\u017f \n\n", "# lyr\u0131\u017f\n", "# Languages\nfr\n\n", "# Lyric", "\x00", "9" * 30, "-"],
}
RANGES = [[0x20, 0x7E], [0x80, 0xB1], [0xB4, 0xB8], [0xBA, 0x24F], [0x300, 0x36F], [0x400, 0x45F], [0x600, 0x66F],
          [0x900, 0x96F], [0x2000, 0x206F], [0x3000, 0x30FF], [0x4E00, 0x4EFF], [0xAC00, 0xACFF], [0xE000, 0xE0FF],
          [0xFE00, 0xFEFF], [0xFF00, 0xFFFF], [0x1D7C0, 0x1D7FF], [0x1F300, 0x1F6FF], [0x10FF00, 0x10FFFF], [0x1, 0x1F]]
# a text's pieces come from these lists in turn; "" is a random character
KINDS = [["words", "space"], ["words", "space", "words", "space", "punct"], ["chars"], [""], ["atoms"], ["digits"],
         ["words", "space", "atoms", "", "punct", "space"], ["words", "space", "words", "space", "words", "space", ""]]
LENGTHS = [60, 60, 8, 30, 1, 5, 40, 120]


class Random:
    """SplitMix64 (Steele, Lea, Flood 2014)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 11) % n

    def pick(self, name):
        return LISTS[name][self.below(len(LISTS[name]))]

    def text(self):
        kind = self.below(len(KINDS))
        pieces = []
        for i in range(1 + self.below(LENGTHS[kind])):
            name = KINDS[kind][i % len(KINDS[kind])]
            if name:
                pieces.append(self.pick(name))
            else:
                first, last = RANGES[self.below(len(RANGES))]
                pieces.append(chr(first + self.below(last - first + 1)))
        return "".join(pieces)

    def maybe_text(self):
        return "" if self.below(12) == 0 else self.text()

    def filled(self, piece):
        return self.text() if piece == "@" else piece

    def answer(self):
        """Mostly the shape of an answer, else nothing but noise."""
        if self.below(5) == 0:
            return "".join(self.filled(self.pick("noise")) for _ in range(1 + self.below(30)))
        damage = [400, 60, 15][self.below(3)]
        pieces = []
        for piece in LISTS["answer"]:
            change = self.below(damage)
            if change == 0:
                continue
            if change == 1:
                pieces.append(self.filled(piece))
            if change in (2, 3):
                pieces.append(self.filled(self.pick("noise")))
            if change == 4:
                pieces.append(self.pick("atoms"))
            if change != 3:
                pieces.append(self.filled(piece))
        return "".join(pieces)


def fnv(text, value):
    for byte in text.encode("utf-8"):
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


# ---- the official program ------------------------------------------------------------------------------------------


def bounded_int(text):
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("more than 64 bits")
    return value


def official(checkout, tokenizer):
    sys.path.insert(0, str(pathlib.Path(checkout).resolve()))
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # imported for audio files, of which there are none here
    backends = types.ModuleType("acestep.llm_backend_compat")  # about vLLM, and missing from some checkouts
    backends.get_vllm_preflight_warning = lambda *_: None
    sys.modules["acestep.llm_backend_compat"] = backends
    from acestep import inference, llm_inference

    path = pathlib.Path(checkout) / "acestep/core/generation/handler/audio_codes.py"
    spec = importlib.util.spec_from_file_location("audio_codes", path)  # its package imports what downloads models
    audio_codes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audio_codes)

    class Planner(llm_inference.LLMHandler):
        """The official planner with random text in place of a model."""

        def __init__(self):
            self.llm_initialized = True
            self.llm_tokenizer = tokenizer
            self.llm_backend = "pt"
            self.use_legacy_cfg_prompt = False

        def parse_lm_output(self, text):
            llm_inference.int = bounded_int
            try:
                return super().parse_lm_output(text)
            finally:
                del llm_inference.int

        def generate_from_formatted_prompt(self, formatted_prompt, cfg=None, **_):
            self.calls.append((formatted_prompt, cfg))
            if cfg.get("cfg_scale", 1.0) > 1.0:
                self.unconditional = self._build_unconditional_prompt(
                    cfg["caption"], cfg["lyrics"], cfg["cot_text"], cfg["negative_prompt"], cfg["generation_phase"]
                )
            return (self.answer if len(self.calls) == 1 and cfg["generation_phase"] != "codes" else "<|audio_code_1|>"), ""

    class Dit:
        """Takes what the official program hands over, and ends the song there."""

        def prepare_seeds(self, count, seeds, random_seed):
            return [1] * count, "1"

        def generate_music(self, captions, lyrics, bpm, key_scale, time_signature, vocal_language, audio_duration):
            self.given = (captions, lyrics, bpm, key_scale, time_signature, vocal_language, audio_duration)
            return {"success": False, "error": "enough", "audios": [], "status_message": "", "extra_outputs": {}}

    logger.remove()
    llm_inference.print = lambda *a, **k: None
    return inference, Planner(), Dit(), audio_codes.AudioCodesMixin()


# ---- results as text -----------------------------------------------------------------------------------------------

FIELDS = ["bpm", "caption", "duration", "genres", "keyscale", "language", "timesignature"]


def show_metadata(metadata):
    lines = []
    for name in FIELDS:
        value = (metadata or {}).get(name)
        if value is None:
            continue
        lines.append(f"{name}={'i' if isinstance(value, int) else 's'}:{value}\n")
    return "".join(lines)


def positive(value):
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def show_song(caption, lyrics, bpm, keyscale, timesignature, language, duration):
    bpm = int(bpm) if bpm and 0 < bpm < 1 << 63 else 0
    return f"{caption}|{lyrics}|{bpm}|{keyscale}|{timesignature}|{language}|{positive(duration):.17g}\n"


# ---- cases ---------------------------------------------------------------------------------------------------------


def yaml_case(random, _):
    text = random.text()
    return text, yaml.dump({"caption": text}, allow_unicode=True, sort_keys=True)


def parse_case(random, program):
    _, planner, _, codes_mixin = program
    answer = random.answer()
    seen = answer.replace("\0", "\ufffd")
    metadata, codes = planner.parse_lm_output(seen)
    numbers = codes_mixin._parse_audio_code_string(codes)
    lyrics = planner._extract_lyrics_from_output(seen)
    return answer, show_metadata(metadata) + "codes=" + ",".join(map(str, numbers)) + f"\nlyrics={lyrics}\n"


def prompt_case(random, program):
    inference, planner, dit, _ = program
    caption, lyrics = random.maybe_text(), random.maybe_text()
    for _ in range(random.below(4)):
        lyrics += "\n" + random.text()
    language, keyscale = random.pick("language"), random.pick("keyscale")
    timesignature, negative = random.pick("timesignature"), random.pick("negative")
    bpm = 1 + random.below(800) / 2 if random.below(2) else 0
    duration = random.below(6400) / 10 if random.below(3) else 0
    plan, rewrite, detect = random.below(4) > 0 or bpm == 0, random.below(2) > 0, random.below(2) > 0
    instrumental = random.below(2) > 0
    answer = random.answer().replace("\0", "") or "x"  # no answer at all is an error
    out = []

    def begin():
        planner.calls, planner.answer, planner.unconditional = [], answer, ""
        dit.given = None

    begin()
    params = inference.GenerationParams(
        caption=caption, lyrics=lyrics, vocal_language=language, bpm=bpm or None, keyscale=keyscale,
        timesignature=timesignature, duration=duration or -1, lm_negative_prompt=negative, use_cot_metas=plan,
        use_cot_caption=rewrite, use_cot_language=detect, thinking=True, lm_cfg_scale=2.0,
    )
    inference.generate_music(dit, planner, params, inference.GenerationConfig(batch_size=1, seeds=[1]))
    if dit.given is None:
        raise SystemExit(f"the official program failed on {caption!r} {answer!r}")
    for prompt, cfg in planner.calls:
        out.append(prompt)
        if cfg["generation_phase"] == "cot":
            out.append(show_metadata(cfg["user_metadata"]))
        else:
            out.append(f"target {positive(cfg['target_duration']):.17g}\n")
    out.append(planner.unconditional)
    out.append(show_song(*dit.given))

    def use(function, *args, **named):
        begin()
        result = function(planner, *args, **named)
        for prompt, cfg in planner.calls:
            out.append(prompt + show_metadata(cfg["user_metadata"]))
        if not planner.calls or not planner.parse_lm_output(answer)[0]:
            out.append("no metadata\n")
            return
        assert result.success
        out.append(show_song(result.caption, result.lyrics, result.bpm, result.keyscale, result.timesignature,
                             result.language, result.duration))

    use(inference.understand_music, caption)
    use(inference.create_sample, caption, instrumental=instrumental, vocal_language=language)
    use(inference.format_sample, caption, lyrics,
        user_metadata={"bpm": bpm or None, "duration": duration or None, "keyscale": keyscale,
                       "timesignature": timesignature, "language": language})
    return None, "".join(out)


def write_corpus():
    """The fuzzer's first byte: bit 0 is the official profile, the others say which fields the user gave."""
    corpus = ROOT / "fuzz/corpus/lm_parse"
    corpus.mkdir(parents=True, exist_ok=True)
    random = Random(3)
    for i in range(24):
        (corpus / f"answer{i:02}").write_bytes(bytes([random.below(256)]) + random.answer()[:600].encode("utf-8"))


CASES = {"yaml": (yaml_case, 60), "parse": (parse_case, 60), "prompt": (prompt_case, 12)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--official", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/data/lm")
    parser.add_argument("--only", choices=CASES)
    options = parser.parse_args()
    program = official(options.official, AutoTokenizer.from_pretrained(options.tokenizer))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "text-fragments.json").write_text(
        json.dumps({"lists": LISTS, "ranges": RANGES, "kinds": KINDS, "lengths": LENGTHS}, indent=0) + "\n")
    write_corpus()
    examples = {}
    for number, (name, (case, count)) in enumerate(CASES.items()):
        if options.only not in (None, name):
            continue
        hashes = []
        for block in range(options.blocks):
            random = Random(number << 32 | block)
            value = 0xCBF29CE484222325
            for i in range(BLOCK):
                _, result = case(random, program)
                value = fnv(result, value)
                if block == 0 and i < count:
                    examples.setdefault(name, []).append(result)
            hashes.append(f"{value:016x}\n")
            print(name, block, flush=True)
        (options.out / f"{name}.txt").write_text("".join(hashes))
    (options.out / "text-examples.json").write_text(json.dumps(examples, indent=0, ensure_ascii=True) + "\n")


main()
