#!/usr/bin/env python3
"""Writes tests/data/formats: one small file of each checkpoint format, made by the format's official writer, and next to
it NAME.f32: the float32 values of all its tensors, one tensor after the other in the order of their names.

Needs torch, safetensors and gguf. Deterministic: running it again gives the same files.
"""
import json
import pathlib
import struct

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

out = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "formats"
out.mkdir(parents=True, exist_ok=True)
generator = torch.Generator().manual_seed(20260401)
rng = np.random.default_rng(20260401)


def normal(*shape):
    return torch.randn(*shape, generator=generator)


def write_expected(name, tensors):
    with open(out / (name + ".f32"), "wb") as f:
        for key in sorted(tensors):
            f.write(np.ascontiguousarray(tensors[key], dtype="<f4").tobytes())


def as_float32(tensors):
    return {key: value.to(torch.float32).numpy() for key, value in tensors.items()}


# ---- safetensors: every type that is read, odd shapes, values at the edges of the types
halves = torch.tensor([0.0, -0.0, 2**-24, -(2**-24), 2**-14, 2**-14 - 2**-24, 65504.0, -65504.0, 1 / 3, 1.0])
plain = {
    "f32": normal(3, 5, 2),
    "f16": normal(4, 7).half(),
    "f16.edges": halves.half(),
    "bf16": normal(6, 3, 1).bfloat16(),
    "bf16.edges": torch.tensor([0.0, -0.0, 1e-40, 3.38e38, -3.38e38, 2.0**-126]).bfloat16(),
    "f64": normal(5).double() / 3,
    "i8": torch.tensor([-128, -1, 0, 127], dtype=torch.int8),
    "u8": torch.tensor([0, 1, 255], dtype=torch.uint8),
    "i16": torch.tensor([-32768, 32767], dtype=torch.int16),
    "i32": torch.tensor([-(2**31), 2**31 - 1, 16777217], dtype=torch.int32),
    "i64": torch.tensor([-(2**63), 2**62 + 1], dtype=torch.int64),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 4),
    "名前": normal(2),
}
save_file(plain, out / "plain.safetensors", metadata={"title": "plain – every type"})
write_expected("plain.safetensors", as_float32(plain))

save_file({"a": normal(4), "f8": normal(8).to(torch.float8_e4m3fn)}, out / "f8.safetensors")

# ---- shards with an index, as Hugging Face writes them
shards = out / "shards"
shards.mkdir(exist_ok=True)
first = {"layers.0.weight": normal(8, 4).bfloat16(), "layers.1.weight": normal(8, 4).bfloat16()}
second = {"layers.2.weight": normal(8, 4).bfloat16(), "norm.weight": normal(8)}
names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
save_file(first, shards / names[0], metadata={"format": "pt"})
save_file(second, shards / names[1], metadata={"format": "pt"})
weight_map = {**{k: names[0] for k in first}, **{k: names[1] for k in second}}
index = {"metadata": {"total_size": 3 * 64 + 32}, "weight_map": weight_map}
(shards / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
write_expected("shards", as_float32({**first, **second}))

# ---- torch zip files
latent = normal(1, 64, 6)
torch.save(latent, out / "latent.pt")
write_expected("latent.pt", {"data": latent.numpy()})
torch.save(latent.transpose(1, 2), out / "view.pt")
torch.save(latent[:, 1:], out / "slice.pt")
torch.save({"a": normal(3), "b": normal(3)}, out / "two.pt")
torch.save(normal(3).half(), out / "half.pt")

# ---- GGUF: every metadata type and every tensor type that is read
writer = gguf.GGUFWriter(out / "types.gguf", "acestep-test")
writer.add_uint8("u8", 250)
writer.add_int8("i8", -100)
writer.add_uint16("u16", 65000)
writer.add_int16("i16", -30000)
writer.add_uint32("u32", 4000000000)
writer.add_int32("i32", -2000000000)
writer.add_float32("f32", 0.1)
writer.add_bool("yes", True)
writer.add_bool("no", False)
writer.add_string("text", "Grüße, 世界")
writer.add_uint64("u64", 2**53)
writer.add_int64("i64", -(2**53))
writer.add_float64("f64", 0.1)
writer.add_array("levels", [8, 8, 8, 5, 5, 5])
writer.add_array("scores", [0.5, -0.25])
writer.add_array("tokens", ["a", "", "Ġthe", "语言"])
writer.add_array("flags", [True, False])


def blocks_of(kind, rows, blocks):
    """Random bits for everything but the block scales (float16), which are ordinary numbers."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    data = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    halves_at = {gguf.GGMLQuantizationType.Q8_0: [0], gguf.GGMLQuantizationType.Q6_K: [208]}.get(kind, [0, 2])
    for at in halves_at:
        scale = (rng.standard_normal((rows, blocks)) * 0.02).astype("<f2")
        data[:, :, at : at + 2] = scale[..., None].view(np.uint8)
    return data.reshape(rows, blocks * size)


expected = {}
for name, kind, blocks in [
    ("q8_0", gguf.GGMLQuantizationType.Q8_0, 9),
    ("q6_k", gguf.GGMLQuantizationType.Q6_K, 2),
    ("q5_k", gguf.GGMLQuantizationType.Q5_K, 2),
    ("q4_k", gguf.GGMLQuantizationType.Q4_K, 2),
]:
    data = blocks_of(kind, 3, blocks)
    writer.add_tensor(name, data, raw_dtype=kind)
    expected[name] = gguf.dequantize(data, kind)
for name, kind in [("f16", gguf.GGMLQuantizationType.F16), ("bf16", gguf.GGMLQuantizationType.BF16)]:
    values = normal(2, 3, 5).numpy()
    data = gguf.quantize(values, kind)
    writer.add_tensor(name, data, raw_dtype=kind)
    expected[name] = gguf.dequantize(data, kind)
real = gguf.quantize(normal(4, 64).numpy(), gguf.GGMLQuantizationType.Q8_0)
writer.add_tensor("q8_0.real", real, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
expected["q8_0.real"] = gguf.dequantize(real, gguf.GGMLQuantizationType.Q8_0)
old = gguf.quantize(normal(2, 32).numpy(), gguf.GGMLQuantizationType.Q4_0)
writer.add_tensor("q4_0", old, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
expected["f32"] = normal(3, 2, 4).numpy()
writer.add_tensor("f32", expected["f32"])
expected["i32"] = np.array([1, -2, 16777217], dtype=np.int32)
writer.add_tensor("i32", expected["i32"])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
write_expected("types.gguf", expected)

total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
print(f"{out}: {total} bytes")
