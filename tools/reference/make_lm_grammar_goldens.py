"""Writes tests/data/lm/grammar.json: some of the random walks of lm_grammar_walks.py.

    make_lm_grammar_goldens.py OFFICIAL [path of Qwen3's tokenizer.json]

OFFICIAL is a checkout of ACE-Step 1.5 (April 2026). The file keeps a hash for each block of walks, and a few walks in
full. walk_lm_grammar.py compares as many walks as one likes.
"""

import json
import pathlib
import sys

from loguru import logger

from lm_grammar_walks import BLOCK, BLOCKS, DURATIONS, MASK, ROOT, VALUES, Settings, Vocabulary, Walker, mix

GOLDENS = ROOT / "tests/data/lm/grammar.json"
SMALL = ROOT / "tests/data/text/tokenizer.json"
READABLE = [0, 3, 1000001, 2000002, 3000003]


def block(walker, number, walks):
    value = count = 0
    for walk in range(walks):
        one, steps = walker.walk(number * BLOCK + walk)
        value = mix((value ^ one) & MASK)
        count += len(steps)
    return {**Settings.of_block(number)._asdict(), "walks": walks, "steps": count, "hash": f"{value:016x}"}


def write(walker, walks):
    result = {"limit": walker.size, "pool": walker.pool, "scripts": walker.scripts, "blocks": [], "walks": []}
    for number in range(BLOCKS):
        result["blocks"].append(block(walker, number, walks))
        print(number, result["blocks"][-1], flush=True)
    for number in READABLE:
        _, steps = walker.walk(number)
        text = "".join(walker.vocabulary.texts[token] for _, token in steps)
        result["walks"].append({"number": number, "steps": steps, "text": text})
    return result


def dump(value, depth=0):
    """JSON with one line for each list of numbers and for each block."""
    if isinstance(value, dict) and depth < 3 and any(isinstance(v, (dict, list)) for v in value.values()):
        inner = ",\n".join(f"{' ' * depth}{json.dumps(k)}: {dump(v, depth + 1)}" for k, v in value.items())
        return "{\n" + inner + "}"
    if isinstance(value, list) and value and isinstance(value[0], (dict, str)):
        return "[\n" + ",\n".join(" " * depth + dump(v, depth + 1) for v in value) + "]"
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def main():
    logger.remove()
    official = pathlib.Path(sys.argv[1])
    result = {"values": VALUES, "durations": DURATIONS}
    result["small"] = write(Walker(Vocabulary(SMALL, 0), official), 60)
    if len(sys.argv) > 2:
        result["qwen3"] = write(Walker(Vocabulary(pathlib.Path(sys.argv[2]), 65535), official), 140)
    GOLDENS.write_text(dump(result) + "\n", encoding="utf-8")


main()
