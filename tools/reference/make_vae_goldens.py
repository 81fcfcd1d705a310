"""Writes tests/data/vae/*.safetensors: tiny random VAEs and what diffusers' AutoencoderOobleck makes of known inputs.

Needs torch, diffusers and safetensors. The reference runs in float64 on the weights as they are stored, and its results
are rounded to float32 once, so that the only error a test sees is its own. Run it from the root of the repository:

    python tools/reference/make_vae_goldens.py

Each file holds the weights under their official names, and results:
    decode.<frames>    every `decimation`-th sample of the waveform, [rows, audio channels]
    encode.<samples>   mean and scale, [frames, 2 * latent channels]
The inputs are not stored: input(seed, i) below is exact in float32 and repeated in the test.
"""

import pathlib

import numpy as np
import torch
from diffusers import AutoencoderOobleck
from safetensors.torch import save_file
from torch.nn.utils import parametrizations, remove_weight_norm

DECODE_SEED, ENCODE_SEED = 1, 2
DECIMATION = 11  # has no factor in common with a hop, so every phase of every stride is seen

CONFIGS = {
    # The official strides, bfloat16 as published.
    "official_strides": dict(
        strides=[2, 4, 4, 6, 10], multiples=[1, 1, 2, 2, 4], hidden=8, audio=2, store="weight_norm", dtype=torch.bfloat16
    ),
    # Mono, other strides and widths; the tensor names of newer torch versions.
    "three_blocks": dict(
        strides=[6, 2, 4], multiples=[1, 3, 2], hidden=6, audio=1, store="parametrized", dtype=torch.float32
    ),
    # The smallest there is, with weight norm already fused.
    "one_block": dict(strides=[4], multiples=[2], hidden=4, audio=2, store="fused", dtype=torch.float32),
}
FRAMES = [1, 2, 9, 10, 19, 37]
EXTRA_SAMPLES = [0, 1, 7, -1, 0, -2]  # beside a whole number of hops


def noise(seed, count):
    """float32 values in [-1, 1): an integer hash, exact everywhere."""
    h = np.arange(count, dtype=np.uint32) + np.uint32(seed * 0x9E3779B9 % 2**32)
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):
        h ^= h >> np.uint32(16)
        h *= np.uint32(multiplier)
    h ^= h >> np.uint32(16)
    return ((h >> np.uint32(8)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def gain(name):
    """Keeps the level and the sensitivity to rounding near those of a trained network."""
    return 0.3 if "res_unit" in name else 2.0 if "conv_t1" in name else 1.0


def randomize(model, dtype, generator):
    """Every parameter matters: gains, biases and snake parameters differ from channel to channel."""
    for name, p in model.named_parameters():
        draw = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        if name.endswith("alpha"):
            p.data = 0.3 * draw - 0.2
        elif name.endswith("beta"):
            p.data = 0.3 * draw + 0.7
        elif name.endswith("weight_g"):
            p.data = gain(name) * torch.exp(0.3 * draw)
        elif name.endswith("bias"):
            p.data = 0.2 * draw
        else:
            p.data = draw
        p.data = p.data.to(dtype).to(torch.float64)
    return model


def stored_tensors(model, store, dtype):
    tensors = {name: p.detach().to(dtype) for name, p in model.state_dict().items()}
    if store == "parametrized":
        names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
        tensors = {
            ".".join(part for part in (*name.split(".")[:-1], names.get(name.split(".")[-1], name.split(".")[-1]))): t
            for name, t in tensors.items()
        }
    elif store == "fused":
        for module in model.modules():
            if hasattr(module, "weight_g"):
                remove_weight_norm(module)
        tensors = {name: p.detach().to(dtype) for name, p in model.state_dict().items()}
    return tensors


def check_parametrized_names():
    conv = parametrizations.weight_norm(torch.nn.Conv1d(3, 5, 7))
    shapes = {name: tuple(p.shape) for name, p in conv.named_parameters()}
    assert shapes["parametrizations.weight.original0"] == (5, 1, 1)
    assert shapes["parametrizations.weight.original1"] == (5, 3, 7)


def make(name, strides, multiples, hidden, audio, store, dtype):
    torch.manual_seed(0)
    hop, latent = int(np.prod(strides)), hidden // 2
    model = AutoencoderOobleck(
        encoder_hidden_size=hidden,
        downsampling_ratios=strides,
        channel_multiples=multiples,
        decoder_channels=hidden,
        decoder_input_channels=latent,
        audio_channels=audio,
        sampling_rate=48000,
    )
    model = randomize(model.double().eval(), dtype, torch.Generator().manual_seed(1234))
    tensors = stored_tensors(model, store, dtype)
    if store == "fused":  # the stored weights are rounded once more
        model.load_state_dict({k: v.double() for k, v in tensors.items()})

    with torch.no_grad():
        for frames in FRAMES:
            z = torch.from_numpy(noise(DECODE_SEED, frames * latent)).double().reshape(1, frames, latent)
            y = model.decode(z.transpose(1, 2)).sample[0].T
            assert y.shape == (frames * hop, audio)
            single = model.float().decode(z.float().transpose(1, 2)).sample[0].T
            model.double()
            silent = model.decode(torch.zeros_like(z).transpose(1, 2)).sample[0].T
            heard = (y - silent).square().mean().sqrt() / y.square().mean().sqrt()  # the rest is bias
            error = (single - y).abs().max() / y.abs().max()
            tensors[f"decode.{frames}"] = y[::DECIMATION].float().contiguous()
            print(f"{name}: decode {frames:2} rms {y.square().mean().sqrt():.3f}, {heard:.2f} of it from the input; float32 differs by {error:.1e}")
        for samples in [1, hop - 1] + [f * hop + e for f, e in zip(FRAMES, EXTRA_SAMPLES) if f * hop + e >= hop]:
            x = torch.from_numpy(noise(ENCODE_SEED, samples * audio)).double().reshape(1, samples, audio)
            x = torch.nn.functional.pad(x.transpose(1, 2), (0, max(0, hop - samples)))
            moments = model.encode(x).latent_dist.parameters[0].T
            assert moments.shape == (max(1, samples // hop), 2 * latent)
            tensors[f"encode.{samples}"] = moments.float().contiguous()
            print(f"{name}: encode {samples:5} rms {moments.square().mean().sqrt():.3f}")

    path = pathlib.Path("tests/data/vae") / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    check_parametrized_names()
    for config_name, config in CONFIGS.items():
        make(config_name, **config)
