"""Random walks through the official constrained decoding: what make_lm_grammar_goldens.py and walk_lm_grammar.py share.

Profile `official` is the official class as it is. Profile `default` is that class with the differences of spec/lm.md 0.3
that concern the grammar, each in a method of DefaultProcessor below.

A walk draws a request and then, position by position, logits: a table of random values read at a random offset, and on
top of it a few tokens that something adversarial would prefer (names, newlines, digits, codes, whole scripts such as
"\\nmood: sad"). The token is the best one allowed. A walk is known by its number, of which number // 1000000 gives the
profile, the list of genres and the longest duration. The generator, the table and the hashes are those of
tests/lm/grammar_walk.h.
"""

import json
import pathlib
import sys
from typing import NamedTuple

import numpy
import tokenizers
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
GENRES = ROOT / "tests/data/lm/grammar_genres.txt"

# ---- the generator -------------------------------------------------------------------------------------------------

torch.set_num_threads(1)
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Random:
    """SplitMix64 (Steele, Lea, Flood 2014)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + GOLDEN) & MASK
        return (mix(self.state) >> 11) % n


def mix_array(count):
    z = (numpy.arange(1, count + 1, dtype=numpy.uint64)) * numpy.uint64(GOLDEN)
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return z ^ (z >> numpy.uint64(31))


# ---- the tokenizer that the official class sees ----------------------------------------------------------------------

ALPHABET = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
BYTES = {chr(b): b for b in ALPHABET}
BYTES.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in ALPHABET)})


class Vocabulary:
    def __init__(self, path, codes):
        """codes: audio codes to add behind the file's tokens, 0 when it has its own."""
        self.inner = tokenizers.Tokenizer.from_file(str(path))
        self.inner.post_processor = tokenizers.processors.Sequence([])
        size = self.inner.get_vocab_size()
        self.texts = [self.inner.decode([i], skip_special_tokens=False) for i in range(size)]
        self.texts += [f"<|audio_code_{n}|>" for n in range(codes)]
        vocabulary = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
        self.bytes = {i: bytes(BYTES[c] for c in token) for token, i in vocabulary.items()}
        for token in self.inner.get_added_tokens_decoder():
            self.bytes.pop(token, None)
        self.eos_token_id = self.inner.token_to_id("<|im_end|>")
        self.pad = self.inner.token_to_id("<|endoftext|>")
        self.first_code = self.texts.index("<|audio_code_0|>")

    def __len__(self):
        return len(self.texts)

    def encode(self, text, add_special_tokens=False):
        return self.inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        assert len(ids) == 1
        return self.texts[ids[0]]


# ---- profile default -------------------------------------------------------------------------------------------------


def make_default(base, State):
    class DefaultProcessor(base):
        def prepare(self):
            size = len(self.tokenizer)
            self.is_text = numpy.zeros(size, bool)
            self.is_text[list(self.tokenizer.bytes)] = True
            texts = self.tokenizer.texts
            self.newlines = numpy.array(["\n" in t for t in texts])
            self.indents = numpy.array([t[:1] in (" ", "\t") for t in texts])
            audio = torch.zeros(1, size)
            audio[0, [i for i, t in enumerate(texts) if t.startswith("<|audio_code_")]] = float("-inf")
            self.default_audio_mask = audio
            self.genre_sets = {}
            self.lowered = [(token, self.lower(piece)) for token, piece in self.tokenizer.bytes.items()]
            self.genre_entries = {g.encode() for g in self.genres_vocab}
            self.genre_prefixes = {g[:n] for g in self.genre_entries for n in range(len(g) + 1)}

        def _get_allowed_tokens_for_fixed_string(self, fixed):
            """D1: names as the tokenizer writes them."""
            at = 0
            for token in self.tokenizer.encode(fixed):
                if at == self.position_in_state:
                    return [token]
                at += len(self.tokenizer.texts[token])
            raise AssertionError(fixed)

        def __call__(self, input_ids, scores):
            if self.state == State.COMPLETED:  # D13: none of the audio tokens
                return scores + self.default_audio_mask
            if self.state == State.CAPTION_VALUE and not self.user_field_token_queue:
                if self.user_provided_metadata["caption"] is None:
                    return self.mask_caption(scores)
            if self.state == State.GENRES_VALUE and not self.user_field_token_queue:
                if self.user_provided_metadata["genres"] is None:
                    return self.mask_genres(scores)
            return super().__call__(input_ids, scores)

        def only(self, scores, mask):
            return scores.masked_fill_(~torch.from_numpy(mask), float("-inf"))

        def single(self, scores, token):
            self._apply_whitelist_inplace(scores, [token])
            return scores

        # D3, D4, D12
        def mask_caption(self, scores):
            if self.caption_token_count >= 512:
                return self.single(scores, self.newline_token)
            mask = self.is_text.copy()
            mask[self.backtick_token] = False
            return self.only(scores, mask)

        def discards(self, token):
            """Called with the token chosen at a caption: does it belong to the next field?"""
            if self.state != State.CAPTION_VALUE or self.user_field_token_queue or not self.caption_after_newline:
                return False
            if self.indents[token]:
                return False
            self._transition_to_next_state()
            return True

        # D5, D12
        def mask_genres(self, scores):
            if self.genres_vocab:
                return self.only(scores, self.listed())
            if self.caption_token_count >= 64:
                return self.single(scores, self.newline_token)
            mask = self.is_text.copy()
            if not self.accumulated_value.strip():
                return self.only(scores, mask & ~self.newlines)
            self.only(scores, mask)
            if int(numpy.argmax(scores[0].numpy())) == self.newline_token:
                return self.single(scores, self.newline_token)
            return scores

        def listed(self):
            key = self.accumulated_bytes
            if key not in self.genre_sets:
                mask = numpy.zeros(len(self.tokenizer), bool)
                for token, piece in self.lowered:
                    mask[token] = self.genre_text(key + piece) in self.genre_prefixes
                if self.genre_text(key) in self.genre_entries:
                    mask[self.newline_token] = True
                if not mask.any():
                    mask[self.newline_token] = True
                self.genre_sets[key] = mask
            return self.genre_sets[key]

        @staticmethod
        def lower(piece):
            return piece.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")

        @staticmethod
        def genre_text(text):
            return text[1:] if text.startswith(b" ") else text

        def update_state(self, token):
            free = not self.user_field_token_queue
            if free and self.state == State.CAPTION_VALUE:
                self.caption_token_count += 1
                self.accumulated_value += self.tokenizer.texts[token]
                self.caption_after_newline = bool(self.newlines[token])
                if self.caption_after_newline and self.caption_token_count >= 512:
                    self._transition_to_next_state()
            elif free and self.state == State.GENRES_VALUE:
                ends = token == self.newline_token or (self.newlines[token] and not self.genres_vocab)
                if ends:
                    self._transition_to_next_state()
                else:
                    self.caption_token_count += 1
                    self.accumulated_value += self.tokenizer.texts[token]
                    self.accumulated_bytes += self.lower(self.tokenizer.bytes.get(token, b""))
            else:
                before = self.state
                super().update_state(token)
                if self.state != before:
                    self.accumulated_bytes = b""

    return DefaultProcessor


# ---- walks -----------------------------------------------------------------------------------------------------------

FIELDS = ["bpm", "caption", "duration", "genres", "keyscale", "language", "timesignature"]
VALUES = {
    "bpm": ["120", "7", "fast"],
    "caption": ["My own caption.", "two\n  lines", "", "caf\u00e9 \u266f"],
    "duration": ["234", "30"],
    "genres": ["Pop Rock", "k-pop, hyperpop"],
    "keyscale": ["C# major", "Am", "B\u266d minor"],
    "language": ["en", "xx", "yue"],
    "timesignature": ["6/8", "4"],
}
DURATIONS = [0.1, 2.3, 7.7, 11.1]
POOL = [" ", "\n", ".\n", ",\n", "\n\n", ":", "#", "b", "\u266f", "\u266d", " major", " minor", "`", "```", "  ", "\t",
        "'\n", ".", ",", "bpm", "caption", "duration", "genres", "keys", "language", " quite", " Pop", "pop", "-",
        "<think>", "</think>", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|audio_code_0|>", " en", " zh",
        " unknown", " yue", *"0123456789", " A", " B", " C", " D", " E", " F", " G", " Ab", " Db", " Eb", "\u00fa",
        "\u591c"]  # fmt: skip
SCRIPTS = ["\nduration: 154\n", "\nkeyscale: F# minor\n", ".\nlanguage: no\n", "\ntimesignature: 4\n", "\ngenres: Pop Rock\n",
           "\nmood: sad\n", "\n  quite resolves.\n", "\n\tand so on\nDuration :", "\n Genres:", "\n\n\nLANGUAGE::", "\nkey\nscale:",
           "\n\u212aeyscale : x", "\n bpm: 90\n", "Neoclassical\nkeyscale:", " k-pop, hyperpop\n", "Pop Rock\n", "\ncaption: again\n",
           "\n<|im_end|>", " 999999\n", " 10\n", "\nduration duration duration duration duration duration duration:",
           "\n  \n  \n", " rock and roll\n", "hip hop\n", "16-bit J-RPG\n", " M\u00fasica Popular Brasileira\n", "\n`code`: 1",
           "\n<|audio_code_1|>:\n", " \u0130stanbul arabesk\n", "\ntimesignature \t\u3000 : \n"]  # fmt: skip
LONG_STEPS, STEPS = 700, 100
SEED = 20260401
MAX_DURATIONS = [600, 480, 360, 240]
BLOCKS = 4 * len(MAX_DURATIONS)
BLOCK = 1000000  # walks that a block can have


class Settings(NamedTuple):
    profile: str
    genres: bool  # with a list of them
    max_duration: int

    @staticmethod
    def of_block(number):
        return Settings(["official", "default"][number % 2], number // 2 % 2 == 1, MAX_DURATIONS[number // 4 % 4])


class Logits:
    """One position's values: the table from `shift` on, but for the boosted tokens, which are better than any other."""

    def __init__(self, table, size, shift):
        self.values = table[shift : shift + size]
        self.boosts = {}

    def dense(self):
        scores = self.values.copy()
        for token, value in self.boosts.items():
            scores[token] = value
        return scores


class Answer(NamedTuple):
    hash: int  # of the allowed set
    count: int
    token: int  # the best one allowed


class Walker:
    def __init__(self, vocabulary, official):
        sys.path.insert(0, str(official))
        import acestep.constrained_logits_processor as module

        self.State = module.FSMState
        self.vocabulary = vocabulary
        base = module.MetadataConstrainedLogitsProcessor
        classes = {"official": base, "default": make_default(base, module.FSMState)}
        self.processors = {}
        for profile, kind in classes.items():
            for genres in (False, True):
                path = str(GENRES if genres else GENRES.with_name("missing"))
                processor = kind(vocabulary, genres_vocab_path=path)
                if profile == "default":
                    processor.prepare()
                self.processors[profile, genres] = processor
        size = len(vocabulary)
        self.size = size
        hashes = mix_array(2 * size)
        self.sums = numpy.concatenate([[numpy.uint64(0)], numpy.cumsum(hashes[:size], dtype=numpy.uint64)])
        self.table = (hashes >> numpy.uint64(42)).astype(numpy.float32)
        unique = [vocabulary.encode(text) for text in POOL]
        self.think_end = vocabulary.encode("</think>")[0]
        self.pool = sorted({ids[0] for ids in unique if len(ids) == 1})
        self.scripts = [vocabulary.encode(text) for text in SCRIPTS]

    def set_hash(self, mask):
        padded = numpy.concatenate([[False], mask, [False]])
        edges = numpy.flatnonzero(padded[1:] != padded[:-1])
        return int(sum((self.sums[edges[1::2]] - self.sums[edges[::2]]).tolist()) & MASK), int(mask.sum())

    def request(self, random):
        kind = random.below(8)
        phase = "cot" if kind < 3 else "understand" if kind < 6 else "cot" if kind == 6 else "codes"
        request = {"phase": phase, "stop": kind < 3}
        request["skip_caption"] = random.below(4) == 0
        request["skip_genres"] = random.below(2) == 0
        request["skip_language"] = random.below(4) == 0
        request["given"] = {}
        for field in FIELDS:
            if random.below(6) == 0:
                request["given"][field] = VALUES[field][random.below(len(VALUES[field]))]
        request["duration"] = 0
        if phase == "codes" and random.below(4) > 0:
            request["duration"] = DURATIONS[random.below(len(DURATIONS))]
        return request

    def start(self, processor, profile, request, max_duration):
        processor.reset()
        processor.set_max_duration(max_duration)
        processor.set_target_duration(None)
        duration = request["duration"]
        if duration > 0:
            if profile == "default":
                duration = min(max(duration, 10), max_duration)
            processor.set_target_duration(duration)
        processor.set_user_metadata(request["given"])
        processor.set_stop_at_reasoning(request["stop"])
        processor.set_skip_caption(request["skip_caption"])
        processor.set_skip_genres(request["skip_genres"])
        processor.set_skip_language(request["skip_language"])
        processor.set_generation_phase(request["phase"])
        processor.accumulated_bytes = b""

    def logits(self, random, script, calm):
        """`calm` walks stay in their caption."""
        logits = Logits(self.table, self.size, random.below(self.size))
        for boost in range(random.below(6)):
            kind = random.below(8)
            if kind < 4:
                token = self.pool[random.below(len(self.pool))]
            elif kind < 6:
                token = random.below(self.size)
            else:
                token = self.vocabulary.first_code + random.below(self.size - self.vocabulary.first_code)
            if calm:
                token = random.below(self.vocabulary.first_code)
            logits.boosts[token] = 5e6 + 16 * random.below(100000) + boost
        if not script and not calm and random.below(6) == 0:
            script.extend(self.scripts[random.below(len(self.scripts))])
        if script:
            logits.boosts[script.pop(0)] = 9e6 + 16 * random.below(2)
        return logits

    def ask(self, processor, input_ids, logits):
        """What the class allows, as a mask, and the best of it."""
        out = processor(input_ids, torch.from_numpy(logits.dense())[None])[0].numpy()
        mask = out > -numpy.inf
        assert mask.any()
        return mask, int(numpy.argmax(out))

    def answer(self, processor, input_ids, logits):
        mask, token = self.ask(processor, input_ids, logits)
        return Answer(*self.set_hash(mask), token)

    def walk(self, number):
        """The hash of a walk, and its tokens: how many were allowed, which one it is."""
        settings = Settings.of_block(number // BLOCK)
        default = settings.profile == "default"
        random = Random(mix(SEED + number))
        request = self.request(random)
        processor = self.processors[settings.profile, settings.genres]
        self.start(processor, settings.profile, request, settings.max_duration)
        input_ids = torch.tensor([[self.think_end if request["phase"] == "codes" else 0]])
        calm = random.below(64) == 0
        script, value, steps, finished = [], 0, [], False
        while not finished and len(steps) < (LONG_STEPS if calm else STEPS):
            if default and request["phase"] == "codes" and processor.target_codes == len(steps):
                break
            logits = self.logits(random, script, calm)
            for again in range(2):
                answer = self.answer(processor, input_ids, logits)
                value = mix(value ^ answer.hash)
                value = mix((value + answer.token) & MASK)
                if not default or not processor.discards(answer.token):
                    break
            steps.append([answer.count, answer.token])
            processor.update_state(answer.token)
            finished = answer.token == self.vocabulary.eos_token_id
            finished |= default and answer.token == self.vocabulary.pad
        return value, steps
