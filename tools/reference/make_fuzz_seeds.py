#!/usr/bin/env python3
"""Writes the seeds of fuzz_safetensors, fuzz_gguf, fuzz_torch_zip and fuzz_config into fuzz/corpus.

The files of tests/data/formats are the first; the others are the smallest files that reach deep into the code.
"""
import json
import pathlib
import shutil
import struct

root = pathlib.Path(__file__).resolve().parents[2]
data, corpus = root / "tests" / "data" / "formats", root / "fuzz" / "corpus"


def folder(name):
    path = corpus / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def safetensors(tensors, metadata=None):
    """tensors: name -> shape, all BF16 zeros."""
    header, at = ({"__metadata__": metadata} if metadata else {}), 0
    for name, shape in tensors.items():
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


# ---- the formats
for name, source in [
    ("safetensors", "f8.safetensors"),
    ("torch_zip", "latent.pt"),
    ("torch_zip", "two.pt"),
    ("torch_zip", "half.pt"),
    ("torch_zip", "view.pt"),
]:
    shutil.copyfile(data / source, folder(name) / source)
sizes = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I8": 1, "U8": 1, "I16": 2, "I32": 4, "I64": 8, "BOOL": 1, "U16": 2}
for dtype, size in sizes.items():
    text = json.dumps({"x": {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * size]}}, separators=(",", ":"))
    file = struct.pack("<Q", len(text)) + text.encode() + bytes(range(3 * size))
    (folder("safetensors") / f"{dtype}.safetensors").write_bytes(file)
(folder("safetensors") / "one.safetensors").write_bytes(safetensors({"w": [2, 1]}, {"format": "pt"}))
(folder("safetensors") / "none.safetensors").write_bytes(safetensors({}))
one = b"GGUF" + struct.pack("<IQQ", 3, 1, 3)
one += string("u8") + struct.pack("<IB", 0, 7)
one += string("text") + struct.pack("<I", 8) + string("abc")
one += string("tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("bc")
one += string("w") + struct.pack("<IQQIQ", 2, 2, 2, 0, 0)
one += bytes(-len(one) % 32) + bytes(16)
(folder("gguf") / "one.gguf").write_bytes(one)
(folder("gguf") / "none.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
for name, kind, count, size in [
    ("f16", 1, 3, 6), ("bf16", 30, 3, 6), ("q4_0", 2, 32, 18), ("q8_0", 8, 32, 34), ("q4_k", 12, 256, 144),
    ("q5_k", 13, 256, 176), ("q6_k", 14, 256, 210),
]:
    head = b"GGUF" + struct.pack("<IQQ", 2, 1, 0) + string("w") + struct.pack("<IQIQ", 1, count, kind, 0)
    body = bytes(i % 31 for i in range(size))
    (folder("gguf") / f"{name}.gguf").write_bytes(head + bytes(-len(head) % 32) + body)
numbers = b"GGUF" + struct.pack("<IQQ", 3, 0, 13)
scalars = ["B", "b", "H", "h", "I", "i", "f", "?", None, None, "Q", "q", "d"]
for kind, code in enumerate(scalars):
    if code:
        numbers += string(f"k{kind}") + struct.pack("<I" + code, kind, 1)
numbers += string("levels") + struct.pack("<IIQ", 9, 4, 2) + struct.pack("<II", 8, 5)
numbers += string("general.alignment") + struct.pack("<II", 4, 64)
(folder("gguf") / "numbers.gguf").write_bytes(numbers)

# ---- configs
dit = {
    "model_type": "acestep", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "encoder_hidden_size": 48,
    "encoder_intermediate_size": 64, "encoder_num_attention_heads": 4, "encoder_num_key_value_heads": 2,
    "layer_types": ["sliding_attention", "full_attention"], "num_lyric_encoder_hidden_layers": 2,
    "num_timbre_encoder_hidden_layers": 2, "rope_scaling": None, "rope_parameters": {"rope_theta": 1e6},
    "fsq_input_levels": [8, 8, 8, 5, 5, 5], "use_sliding_window": True, "sliding_window": 128, "is_turbo": True,
    "auto_map": {"AutoModel": "modeling_acestep_v15_base.X"}, "model_version": None, "rms_norm_eps": 1e-6,
}
qwen3 = {
    "model_type": "qwen3", "hidden_size": 1024, "vocab_size": 151669, "rope_scaling": {"rope_type": "default"},
    "rope_theta": 1000000, "tie_word_embeddings": True, "hidden_act": "silu", "attention_bias": False,
}
vae = {
    "_class_name": "AutoencoderOobleck", "audio_channels": 2, "channel_multiples": [1, 2], "decoder_channels": 8,
    "decoder_input_channels": 64, "downsampling_ratios": [2, 10], "encoder_hidden_size": 8, "sampling_rate": 48000,
}
for name, tag, config in [("dit", b"d", dit), ("qwen3", b"q", qwen3), ("vae", b"v", vae), ("empty", b"d", {})]:
    (folder("config") / f"{name}.json").write_bytes(tag + json.dumps(config).encode())


def stack(prefix, hidden=2):
    p = prefix + "layers.0."
    return {
        p + "self_attn.q_norm.weight": [2], p + "self_attn.q_proj.weight": [4, hidden],
        p + "self_attn.k_proj.weight": [2, hidden], p + "mlp.gate_proj.weight": [3, hidden],
    }


whole = stack("m.decoder.")
for prefix in ["encoder.lyric_encoder.", "encoder.timbre_encoder.", "tokenizer.attention_pooler.", "detokenizer."]:
    whole |= stack("m." + prefix)
whole |= {
    "m.decoder.proj_in.1.weight": [2, 3, 2], "m.decoder.proj_out.1.weight": [2, 1, 2],
    "m.decoder.proj_out.1.bias": [1], "m.decoder.condition_embedder.weight": [2, 2],
    "m.encoder.text_projector.weight": [2, 2], "m.encoder.timbre_encoder.embed_tokens.weight": [2, 1],
    "m.tokenizer.quantizer.project_in.weight": [6, 2], "m.detokenizer.special_tokens": [1, 5, 2],
}
(folder("config") / "dit.safetensors").write_bytes(b"s" + safetensors(whole))
text = stack("model.") | {"model.embed_tokens.weight": [9, 2], "model.norm.weight": [2]}
(folder("config") / "qwen3.safetensors").write_bytes(b"s" + safetensors(text))
sounds = {
    "decoder.conv1.weight_v": [4, 1, 7], "decoder.conv2.weight": [1, 2, 7],
    "decoder.block.0.conv_t1.weight_v": [4, 2, 8], "decoder.block.0.conv_t1.bias": [2],
    "decoder.block.1.conv_t1.parametrizations.weight.original1": [2, 2, 4], "decoder.block.1.conv_t1.bias": [2],
}
(folder("config") / "vae.safetensors").write_bytes(b"s" + safetensors(sounds))
pieces = {
    "layers.0.self_attn.to_q.weight": [2, 2], "proj_in_conv.weight": [2, 3, 2], "time_embed_r.linear_1.weight": [2, 2],
    "layers.0.self_attn.to_out.0.weight": [2, 2], "null_condition_emb": [1],
}
(folder("config") / "diffusers.safetensors").write_bytes(b"s" + safetensors(pieces))
