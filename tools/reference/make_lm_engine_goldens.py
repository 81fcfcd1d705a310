#!/usr/bin/env python3
"""Reference values for the planner's engine and sampler.

    make_lm_engine_goldens.py --out tests/data/lm

Three tiny random Qwen3 language models (engine-tied, engine-untied, engine-wide: config as .json, weights in bfloat16 as
.safetensors) and what transformers computes from them in float32 (…-golden.safetensors):
    prompt, negative    ids, as float32
    forced              ids that follow the prompt
    logits              [1 + forced, vocabulary]: after the prompt, and after each forced id
    greedy              the ids with the largest logits, after the prompt
    guided              the same with guidance, among the ids 40 ... 199
    sampled             the same, sampled by `sample` below
engine-sampling.txt: "count spread temperature top_k top_p position id" a line. The values of a line are noise(line,
count) * spread, rounded to multiples of 1/8 on every second line so that there are equals.
"""
import argparse
import json
import math
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

GUIDANCE = 2.5
FIRST, END = 40, 200
PHILOX_SEED = 0x123456789ABCDEF


def philox(counter, key):
    """Philox4x32-10 on Python integers (Salmon et al. 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform(seed, stream, position):
    return (philox([position, 0, stream, 0], [seed & 0xFFFFFFFF, seed >> 32])[0] + 0.5) / 2**32


def sample(values, temperature, top_k, top_p, r):
    """spec 5.1, steps 5 to 8, by sorting."""
    values = np.asarray(values, dtype=np.float32)
    if temperature <= 0:
        return int(np.argmax(values))
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    kept = order if top_k <= 0 else [i for i in order if values[i] >= values[order[min(top_k, len(order)) - 1]]]
    temperature = float(np.float32(temperature))
    weight = {i: math.exp((float(values[i]) - float(values[order[0]])) / temperature) for i in kept}
    if top_p < 1:
        limit, before, nucleus = float(np.float32(top_p)) * math.fsum(weight.values()), 0.0, []
        for i in kept:
            if nucleus and before >= limit:
                break
            nucleus.append(i)
            before += weight[i]
        kept = nucleus
    total, running = math.fsum(weight[i] for i in kept), 0.0
    for i in sorted(kept):
        running += weight[i]
        if running > r * total:
            return i
    return max(kept)


def noise(seed, count):
    """Uniform in [-1, 1): the hash of the C tests."""
    i = np.arange(count, dtype=np.uint32)
    with np.errstate(over="ignore"):
        h = i + np.uint32((seed * 0x9E3779B9) & 0xFFFFFFFF)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return ((h >> np.uint32(8)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def make_model(tied, vocabulary, hidden, layers, heads, kv_heads, head_dim, intermediate):
    torch.manual_seed(heads)
    config = Qwen3Config(vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers,
                         num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
                         intermediate_size=intermediate, tie_word_embeddings=tied, rope_theta=1e6, rms_norm_eps=1e-6,
                         max_position_embeddings=4096, attention_bias=False)
    model = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(1 + 0.2 * torch.randn(p.shape))
            else:
                gain = 0.1 if "embed_tokens" in name or "lm_head" in name else 1.5 / math.sqrt(p.shape[1])
                p.copy_(gain * torch.randn(p.shape))
            if name == "model.norm.weight":
                p.mul_(4)  # logits that differ: the small embedding keeps a tied model from repeating its input
            p.copy_(p.to(torch.bfloat16).to(torch.float32))
    return model


def logits_after(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().numpy()


def write(model, prompt, negative, count, choose):
    text = []
    for position in range(count):
        values = logits_after(model, prompt + text)
        if negative is not None:
            other = logits_after(model, negative + text)
            values = other + np.float32(GUIDANCE) * (values - other)
        text.append(choose(values, position))
    return text


def make(out, name, steps, **shape):
    model = make_model(**shape)
    vocabulary = shape["vocabulary"]
    generator = np.random.default_rng(7)
    prompt, negative, forced = (generator.integers(0, vocabulary, n).tolist() for n in (37, 11, steps))
    with torch.no_grad():
        logits = model(torch.tensor([prompt + forced])).logits[0, len(prompt) - 1:].float()
    greedy = write(model, prompt, None, steps, lambda v, _: int(np.argmax(v)))
    guided = write(model, prompt, negative, 100, lambda v, _: FIRST + int(np.argmax(v[FIRST:END])))
    sampled = write(model, prompt, negative, 100,
                    lambda v, p: FIRST + sample(v[FIRST:END], 0.85, 50, 0.9, uniform(PHILOX_SEED, 2, p)))
    golden = {k: torch.tensor(v, dtype=torch.float32) for k, v in
              {"prompt": prompt, "negative": negative, "forced": forced, "greedy": greedy, "guided": guided,
               "sampled": sampled}.items()}
    save_file(golden | {"logits": logits.contiguous()}, str(out / f"{name}-golden.safetensors"))

    weights = {k.removeprefix("model."): v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()
               if not (shape["tied"] and k == "lm_head.weight")}
    save_file(weights, str(out / f"{name}.safetensors"))
    config = {"model_type": "qwen3", "vocab_size": vocabulary, "hidden_size": shape["hidden"],
              "num_hidden_layers": shape["layers"], "num_attention_heads": shape["heads"],
              "num_key_value_heads": shape["kv_heads"], "head_dim": shape["head_dim"],
              "intermediate_size": shape["intermediate"], "rope_theta": 1000000, "rms_norm_eps": 1e-6,
              "tie_word_embeddings": shape["tied"]}
    (out / f"{name}.json").write_text(json.dumps(config, indent=1) + "\n")
    print(name, len(set(greedy)), "different greedy ids,", len(set(sampled)), "sampled")


def make_sampling(out):
    generator = np.random.default_rng(11)
    with open(out / "engine-sampling.txt", "w") as f:
        for line in range(1500):
            count = int(generator.integers(1, 400))
            spread = float(generator.choice([0.5, 2, 8, 30]))
            temperature = float(generator.choice([0, 0.3, 0.85, 1, 2]))
            top_k = int(generator.choice([0, 0, 1, 3, 40, 1000]))
            top_p = float(generator.choice([1, 0.9, 0.5, 0.05, 0.999]))
            values = noise(line, count) * np.float32(spread)
            if line % 2:
                values = np.rint(values * np.float32(8)) / np.float32(8)
            chosen = sample(values, temperature, top_k, top_p, uniform(line, 1, 3 * line))
            f.write(f"{count} {spread:g} {temperature:g} {top_k} {top_p:g} {3 * line} {chosen}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    torch.set_num_threads(1)
    make_sampling(out)
    make(out, "engine-tied", 300, tied=True, vocabulary=256, hidden=48, layers=3, heads=4, kv_heads=2, head_dim=16,
         intermediate=80)
    make(out, "engine-untied", 120, tied=False, vocabulary=211, hidden=32, layers=2, heads=6, kv_heads=3, head_dim=10,
         intermediate=48)
    make(out, "engine-wide", 160, tied=True, vocabulary=200, hidden=80, layers=2, heads=8, kv_heads=2, head_dim=8,
         intermediate=64)


if __name__ == "__main__":
    main()
