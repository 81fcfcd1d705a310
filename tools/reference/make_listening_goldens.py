"""Writes what the program must hear: tests/data/audio/resample/*.f32 (torchaudio's Resample with its defaults) and
tests/data/song/listening.safetensors (the official program's "convert audio to codes" on the tiny checkpoint `turbo`),
in float32 on the CPU.

    make-tiny-checkpoint tiny/turbo --variant turbo
    python tools/reference/make_listening_goldens.py --official ACE-STEP-1.5 --checkpoint tiny/turbo --out tests/data

resample/<from>-<to>-<frames>.f32: ceil(frames * to / from) stereo frames, little-endian float32, made of noise(1).

listening.safetensors, for every recording of RECORDINGS, which the test writes again from the same integers:
    <name>.codes     [codes]
    <name>.latents   [ceil(frames / step), 64]    every frame, or every seventh of a long recording
    <name>.margins   [codes, 6]                   how far each value was from being rounded to another level, in levels

The official program samples the VAE's posterior from an unseeded generator: here it takes the mean.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np
import soundfile
import torch

torch.version.cuda = None  # nothing of CUDA is used: torchaudio need not be built for the same version of it
import torchaudio  # noqa: E402

from safetensors.torch import save  # noqa: E402

from official_program import open_program  # noqa: E402

RESAMPLED = [
    (44100, 48000, 1201),
    (22050, 48000, 601),
    (8000, 48000, 333),
    (96000, 48000, 2003),
    (32000, 48000, 877),
    (11025, 48000, 401),
    (47999, 48000, 1303),
    (48000, 44100, 1500),
    (48000, 48000, 97),
    (768000, 48000, 9001),
    (192000, 48000, 4001),
    (1000, 48000, 31),
    (1021, 1000, 3001),
    (44100, 48000, 1),
    (44100, 48000, 3),
    (96000, 48000, 2),
    (48000, 1000, 3001),
]

# Rate, channels, frames, subtype, every which latent frame is kept. Loud: partly beyond [-1, 1], where it is clamped.
RECORDINGS = {
    "mono_44100": (44100, 1, 3 * 44100 + 17, "PCM_16", 1),
    "stereo_48000": (48000, 2, 3 * 48000 - 3000, "PCM_16", 1),
    "six_22050": (22050, 6, 2 * 22050 + 1, "PCM_24", 1),
    "loud_96000": (96000, 2, 2 * 96000 + 3001, "FLOAT", 1),
    "one_hop": (48000, 2, 1920, "PCM_16", 1),
    "tiled_8000": (8000, 1, 17 * 8000, "PCM_16", 7),  # longer than 15 s: in two tiles
}


def noise(seed, count):
    """float32 values in [-1, 1): an integer hash, exact everywhere."""
    h = np.arange(count, dtype=np.uint32) + np.uint32(seed * 0x9E3779B9 % 2**32)
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):
        h ^= h >> np.uint32(16)
        h *= np.uint32(multiplier)
    h ^= h >> np.uint32(16)
    return ((h >> np.uint32(8)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def triangle(i, rate, hertz):
    """Integers in [-8192, 8192], `hertz` times a second."""
    phase = i * hertz % rate * 65536 // rate
    return np.abs(phase - 32768) // 2 - 8192


def recording(rate, channels, frames):
    """[frames, channels] integers of 16 bits: two tones that change every fifth of a second, and some noise."""
    i = np.arange(frames, dtype=np.int64)
    step = i * 5 // rate
    hiss = (noise(3, frames).astype(np.float64) * 2048).astype(np.int64)
    columns = []
    for c in range(channels):
        low, high = 110 + step * 37 % 331, 440 + (step * 59 + 13 * c) % 1777
        columns.append(triangle(i, rate, low) + triangle(i, rate, high) * (1 + c % 3) // 2 + hiss)
    return np.stack(columns, axis=1)


def write(path, name):
    rate, channels, frames, subtype, _ = RECORDINGS[name]
    samples = recording(rate, channels, frames)
    if subtype == "FLOAT":
        data = (samples / 16384).astype(np.float32)
        assert np.abs(data).max() > 1
    else:
        assert np.abs(samples).max() < 32768
        data = (samples << 16).astype(np.int32)
    soundfile.write(path, data, rate, subtype=subtype, format="WAV")


def resample_first_phases(wave, old, new):
    """torchaudio's formula where its table would take 18 GB: rates without a common divisor, fewer frames than one
    period. Row by row, in the order of its operations; wave [2, frames]."""
    base = min(old, new) * 0.99
    width = int(np.ceil(6 * old / base))
    padded = np.pad(wave, ((0, 0), (width, width + old)))
    grid = np.arange(-width, width + old, dtype=np.float64) / old
    result = np.empty((2, -(-wave.shape[1] * new // old)), dtype=np.float32)
    assert result.shape[1] <= new
    for i in range(result.shape[1]):
        t = np.clip((np.float64(np.float32(-i) / np.float32(new)) + grid) * base, -6, 6)
        window = np.cos(t * np.pi / 6 / 2) ** 2
        t = t * np.pi
        with np.errstate(invalid="ignore"):
            kernel = (np.where(t == 0, 1.0, np.sin(t) / t) * (window * (base / old))).astype(np.float32)
        result[:, i] = (padded[:, : len(kernel)].astype(np.float64) * kernel).sum(axis=1)
    return torch.from_numpy(result)


def make_resampled(out):
    out.mkdir(parents=True, exist_ok=True)
    small = torch.from_numpy(noise(1, 200).reshape(100, 2).T.copy())
    difference = torchaudio.transforms.Resample(44100, 48000)(small) - resample_first_phases(small.numpy(), 147, 160)
    assert difference.abs().max() < 3e-7, "the formula written out here is not torchaudio's"
    for old, new, frames in RESAMPLED:
        wave = torch.from_numpy(noise(1, 2 * frames).reshape(frames, 2).T.copy())
        if old == 47999:
            result = resample_first_phases(wave.numpy(), old, new)
        else:
            result = torchaudio.transforms.Resample(old, new)(wave)
        assert result.shape[1] == -(-frames * new // old)
        (out / f"{old}-{new}-{frames}.f32").write_bytes(result.T.contiguous().numpy().astype("<f4").tobytes())


def make_heard(program, out):
    from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution

    OobleckDiagonalGaussianDistribution.sample = lambda self, generator=None: self.mode()
    seen = {}
    encode = program._encode_audio_to_latents
    program._encode_audio_to_latents = lambda audio: seen.setdefault("latents", encode(audio))
    program.model.tokenizer.quantizer.project_in.register_forward_hook(
        lambda module, inputs, output: seen.update(projected=output)
    )
    tensors = {}
    for name, (_, _, _, _, step) in RECORDINGS.items():
        seen.clear()
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            write(file.name, name)
            text = program.convert_src_audio_to_codes(file.name)
        codes = torch.tensor(program._parse_audio_code_string(text), dtype=torch.int32)
        assert len(codes) == -(-len(seen["latents"]) // 5), text
        tensors[f"{name}.codes"] = codes
        tensors[f"{name}.latents"] = seen["latents"][::step]
        tensors[f"{name}.margins"] = margins(seen["projected"].reshape(-1, 6))
        print(
            f"{name}: {list(seen['latents'].shape)}, deviation {seen['latents'].std():.3f}, {len(codes)} codes, "
            f"{len(set(codes.tolist()))} different, smallest margin {tensors[f'{name}.margins'].min():.1e} levels"
        )
    out.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def margins(projected):
    """Distance of each projected value from the nearest boundary between two levels."""
    levels = torch.tensor([8, 8, 8, 5, 5, 5], dtype=torch.float64)
    limit = 1 + 1 / (levels - 1)
    z = (torch.tanh(projected.double() / limit) * limit).clamp(-1, 1)
    place = (levels - 1) * (z + 1) / 2 + 0.5
    return (place - place.round()).abs().float()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, type=pathlib.Path)
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    make_resampled(options.out / "audio/resample")
    program = open_program(options.official, options.checkpoint)
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    make_heard(program, options.out / "song/listening.safetensors")


if __name__ == "__main__":
    main()
