"""As many random walks as one likes (lm_grammar_walks.py) through the official constrained decoding and through ours.

    walk_lm_grammar.py OFFICIAL TOKENIZER CHECKER [--walks N] [--check-every N]
    walk_lm_grammar.py OFFICIAL TOKENIZER CHECKER --show NUMBER

OFFICIAL is a checkout of ACE-Step 1.5 (April 2026), TOKENIZER Qwen3's tokenizer.json, CHECKER the built test
lm_test_grammar_walks, which is started with `-`, reads one walk a line (its number, its number of tokens, its hash) and
walks it too. --walks is the number in each profile. --show prints one walk.

What is allowed is always the answer of the official class to a state of it. Where the logits matter to the answer, or
where asking changes the state, it is asked every time. Everywhere else the answer for a state is remembered: for the
attributes that `key` lists, which are those that the class's mask can depend on. Every --check-every'th answer that is
remembered is asked again nevertheless, with the logits of that position, and must be the same.

For profile `default` the official class is also asked what it would allow in the same state, and each difference must be
one that spec/lm.md 0.3 lists.
"""

import argparse
import collections
import copy
import pathlib
import subprocess
import sys
import time

import numpy
import torch
from loguru import logger

from lm_grammar_walks import BLOCK, BLOCKS, Answer, Settings, Vocabulary, Walker

SMALL_SET = 4096  # ids; larger sets are kept as masks


class Remembered:
    """The allowed set of a state, and how to find the best of it without looking at 217,000 values."""

    def __init__(self, mask, digest):
        self.hash, self.count = digest
        self.mask = mask
        self.ids = numpy.flatnonzero(mask) if self.count <= SMALL_SET else None
        self.small = set(self.ids.tolist()) if self.ids is not None else None

    def __contains__(self, token):
        return token in self.small if self.small is not None else bool(self.mask[token])

    def best(self, logits):
        """The lowest of the best ids."""
        if self.count == 1:
            return int(self.ids[0])
        boosted = [(-value, token) for token, value in logits.boosts.items() if token in self]
        if boosted:
            return min(boosted)[1]
        if self.ids is not None:
            return int(self.ids[numpy.argmax(logits.values[self.ids])])
        return int(numpy.argmax(numpy.where(self.mask, logits.values, numpy.float32(-1))))


class RememberingWalker(Walker):
    def __init__(self, vocabulary, official, check_every):
        super().__init__(vocabulary, official)
        self.check_every = check_every
        self.sets = {}  # by hash
        self.memory = collections.defaultdict(dict)  # by profile, then by key: Remembered, or None: ask every time
        self.counts = collections.defaultdict(collections.Counter)  # by profile
        self.official_class = type(self.processors["official", False])
        size = len(vocabulary)
        self.text = numpy.zeros(size, bool)
        self.text[list(vocabulary.bytes)] = True
        self.newlines = numpy.array(["\n" in t for t in vocabulary.texts])
        self.codes = numpy.zeros(size, bool)
        self.codes[vocabulary.first_code : vocabulary.first_code + 64000] = True
        self.beyond = numpy.arange(size) >= vocabulary.first_code + 64000

    def start(self, processor, profile, request, max_duration):
        super().start(processor, profile, request, max_duration)
        self.profile = profile
        self.max_duration = max_duration

    def attention(self, processor):
        """Why the logits matter to the answer, if they do."""
        S, state = self.State, processor.state
        if processor.user_field_token_queue:
            return None
        if state == S.CAPTION_VALUE and self.profile == "official" and processor.caption_after_newline:
            return "a caption's best token"
        if state == S.LANGUAGE_VALUE and not processor.accumulated_token_ids:
            return "the best language"
        if state == S.GENRES_VALUE and not processor.genres_vocab and processor.accumulated_value.strip():
            return "genres without a list"
        return None

    def key(self, processor):
        S, state = self.State, processor.state
        if state == S.CAPTION_VALUE:
            text = bool(processor.accumulated_value)
        elif state == S.GENRES_VALUE:
            text = processor.accumulated_value.lower().strip(), bool(processor.accumulated_value)
            text += (processor.accumulated_bytes,)
        else:
            text = None  # the other fields' values are in accumulated_token_ids
        field = state.name.removesuffix("_VALUE").lower().replace("timesig", "timesignature")
        target = processor.target_codes
        return (
            state,
            processor.position_in_state,
            tuple(processor.accumulated_token_ids),
            text,
            tuple(processor.user_field_token_queue[:1]),
            processor.user_provided_metadata.get(field),
            processor.caption_after_newline,
            processor.caption_ending,
            processor.caption_token_count if state == S.GENRES_VALUE else processor.caption_token_count >= 512,
            processor.generation_phase,
            processor.stop_at_reasoning,
            None if target is None else processor.codes_count < target,
            bool(processor.genres_vocab),
            self.max_duration,
        )

    @staticmethod
    def snapshot(processor):
        """All attributes; those that the class changes, by value."""
        return {k: list(v) if isinstance(v, list) and len(v) < 1000 else v for k, v in vars(processor).items()}

    @staticmethod
    def same(before, after):
        return before.keys() == after.keys() and all(
            a is b or (type(a) in (int, str, bool, list, float) and a == b) for a, b in zip(before.values(), after.values())
        )

    def remember(self, mask):
        digest = self.set_hash(mask)
        if digest[0] not in self.sets:
            self.sets[digest[0]] = Remembered(mask, digest)
        return self.sets[digest[0]]

    def answer(self, processor, input_ids, logits):
        counts, memory = self.counts[self.profile], self.memory[self.profile]
        counts["steps"] += 1
        reason = self.attention(processor)
        key = None if reason else self.key(processor)
        known = memory.get(key) if key else None
        if known and counts["steps"] % self.check_every:
            return Answer(known.hash, known.count, known.best(logits))
        first = key not in memory if key else counts[reason] % self.check_every == 0
        if first and self.profile == "default":
            self.compare_profiles(processor, input_ids, logits)
        before = None if reason else self.snapshot(processor)
        mask, token = self.ask(processor, input_ids, logits)
        counts["asked"] += 1
        if reason:
            counts[reason] += 1
            return Answer(*self.set_hash(mask), token)
        unchanged = self.same(before, self.snapshot(processor))
        if known:
            counts["asked again"] += 1
            answer = Answer(*self.set_hash(mask), token)
            if answer != Answer(known.hash, known.count, known.best(logits)) or not unchanged:
                raise SystemExit(f"an answer that was remembered is wrong, for {key}")
            return answer
        if unchanged:
            memory[key] = known = self.remember(mask)
            return Answer(known.hash, known.count, token)
        memory[key] = None
        counts["asking changes the state"] += 1
        return Answer(*self.set_hash(mask), token)

    # ---- default against official

    def compare_profiles(self, processor, input_ids, logits):
        """The same state, asked both ways."""
        masks = []
        for ask in (self.official_class.__call__, type(processor).__call__):
            twin = copy.copy(processor)
            for name, value in vars(processor).items():
                if isinstance(value, list):
                    setattr(twin, name, list(value))
            if ask is self.official_class.__call__:
                twin._get_allowed_tokens_for_fixed_string = lambda text, twin=twin: (
                    self.official_class._get_allowed_tokens_for_fixed_string(twin, text))  # fmt: skip
            out = ask(twin, input_ids, torch.from_numpy(logits.dense())[None])[0].numpy()
            masks.append(out > -numpy.inf)
        self.counts[self.profile]["compared: " + self.difference(processor, *masks)] += 1

    def difference(self, processor, official, default):
        S, state = self.State, processor.state
        if (official == default).all():
            return "the same"
        if state == S.BPM_NAME and official.sum() == default.sum() == 1:
            return "D1"
        if state == S.CAPTION_VALUE:
            backtick = numpy.arange(self.size) == processor.backtick_token
            if processor.caption_after_newline and official.all() and (default == self.text & ~backtick).all():
                return "D3 (and D12)"
            if (official == ~self.codes & ~backtick).all() and (default == self.text & ~backtick).all():
                return "D12"
        if state == S.GENRES_VALUE and processor.genres_vocab:
            return "D5 (a list)"
        if state == S.GENRES_VALUE:
            newline = numpy.arange(self.size) == processor.newline_token
            if processor.caption_token_count >= 64 and (default == newline).all():
                return "D5 (64 tokens)"
            if processor.accumulated_value.strip() and official.all() and (default == self.text).all():
                return "D12"
            if (official == ~newline).all() and (default == self.text & ~self.newlines).all():
                return "D5 and D12 (nothing written yet)"
        if state == S.COMPLETED and (official == ~self.codes).all() and (default == ~self.codes & ~self.beyond).all():
            return "D13"
        print("not a listed difference:", state, int((official & ~default).sum()), int((default & ~official).sum()))
        return "NOT LISTED"

    def report(self, profile, walks, tokens):
        counts = self.counts[profile]
        print(f"{profile}: {walks} walks, {tokens} tokens, {counts['steps']} sets")
        distinct = sum(1 for known in self.memory[profile].values() if known)
        print(f"  distinct states whose answer was remembered: {distinct}; asked again: {counts['asked again']}, all the same")
        print(f"  the official class was asked {counts['asked']} times")
        for name in sorted(counts):
            if name not in ("steps", "asked", "asked again"):
                print(f"  {name}: {counts[name]}")
        return counts["compared: NOT LISTED"]


def show(walker, number):
    print(*Settings.of_block(number // BLOCK))
    value, steps = Walker.walk(walker, number)
    for count, token in steps:
        print(f"{count:7} {token:7} {walker.vocabulary.texts[token]!r}")
    print(len(steps), f"{value:016x}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("official", type=pathlib.Path)
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("checker", type=pathlib.Path)
    parser.add_argument("--walks", type=int, default=100000)
    parser.add_argument("--check-every", type=int, default=64)
    parser.add_argument("--show", type=int)
    arguments = parser.parse_args()
    logger.remove()
    walker = RememberingWalker(Vocabulary(arguments.tokenizer, 65535), arguments.official, arguments.check_every)
    if arguments.show is not None:
        show(walker, arguments.show)
        return
    begin = time.time()
    checker = subprocess.Popen([arguments.checker, "-"], stdin=subprocess.PIPE, text=True)
    each = -(-arguments.walks * 2 // BLOCKS)
    tokens = collections.Counter()
    for number in range(BLOCKS):
        settings = Settings.of_block(number)
        for walk in range(number * BLOCK, number * BLOCK + each):
            value, steps = walker.walk(walk)
            tokens[settings.profile] += len(steps)
            checker.stdin.write(f"{walk} {len(steps)} {value:016x}\n")
        print(f"block {number + 1} of {BLOCKS} ({settings.profile}): {time.time() - begin:.0f} s", flush=True)
    checker.stdin.close()
    wrong = checker.wait()
    for profile in ("official", "default"):
        wrong |= walker.report(profile, each * BLOCKS // 2, tokens[profile])
    sys.exit(1 if wrong else 0)


main()
