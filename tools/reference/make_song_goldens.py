"""Writes tests/data/song/<variant>.{json,safetensors}: whole songs as the official program makes them of requests, in
float32 on the CPU, from a tiny checkpoint (tools/make_tiny_checkpoint.c).

    make-tiny-checkpoint tiny/turbo --variant turbo
    python tools/reference/make_song_goldens.py --official ACE-STEP-1.5 --checkpoint tiny/turbo --out tests/data/song

The JSON lists cases: the request in the names of our interface, what was tokenised, the number of latent frames. Tensors:
    <case>.latents   [batch, ceil(frames / 3), 64]   every third frame, after latent_rescale and latent_shift
    <case>.audio     [batch, 3, 240, 2]              of the decoded waveform: first, middle and last 240 samples
    <case>.noise     [ceil(frames / 3), 64]          of torch's CPU generator, every third frame (first case)

The official program draws the noise of its SDE steps from an unseeded generator: it is given ours instead (noise_ace in
src/diffusion/noise.h).
"""

import argparse
import json
import pathlib
import re
import sys

import numpy as np
import torch
from safetensors.torch import save

from official_program import dit_directory, open_program

AUDIO_SAMPLES = 240
FRAME_STEP = 3  # has no factor in common with the patch size, so both frames of a patch are seen
CAPTION = "upbeat city pop with a warm female vocal, slap bass and bright brass"
LYRICS = "[Verse 1]\nI walk along the river while the city is asleep\nла la la 夜の歌\n\n[Chorus]\nOh, the light!"


def codes(count):
    return "".join(f"<|audio_code_{(i * 9973 + 4711) % 64000}|>" for i in range(count))


METAS = dict(bpm=120, keyscale="F# minor", timesignature="4")
SONG = dict(caption=CAPTION, lyrics=LYRICS, vocal_language="en", duration=10, seed=7, noise="torch-cpu")

# What every model can do.
COMMON = {
    "preset": SONG | METAS,
    "odd_frames": SONG | dict(duration=10.3, seed=11, dcw_enabled=False),
    "codes": SONG | dict(audio_codes=codes(27), duration=None, inference_steps=6),
    "batch": SONG | dict(batch_size=2, instrumental=True, inference_steps=4, caption="slow piano, rain"),
}
# The loop of turbo, and everything before and behind the loop.
TURBO = {
    "heun": SONG | dict(solver="heun", inference_steps=5),
    "velocity": SONG | dict(velocity_norm_threshold=0.6, velocity_ema_factor=0.2, solver="heun", shift=2),
    "sde": SONG | dict(solver="sde", inference_steps=6),
    "timesteps": SONG | dict(timesteps="0.97,0.76,0.615,0.5,0.395,0.28,0.18,0.085,0"),
    "shift_2": SONG | dict(shift=2, inference_steps=4, dcw_mode="low", dcw_wavelet="db4", dcw_scaler=0.3),
    "dcw_high": SONG | dict(shift=1, inference_steps=5, dcw_mode="high", dcw_wavelet="sym8", dcw_scaler=0.3, duration=10.2),
    "dcw_pix": SONG | dict(inference_steps=3, dcw_mode="pix", dcw_scaler=0.1),
    "short_codes": SONG | dict(audio_codes=codes(20), duration=None, cover_noise_strength=0.4),
    "cover_half": SONG | dict(audio_codes=codes(26), duration=None, audio_cover_strength=0.5),
    "plain_half": SONG | dict(audio_cover_strength=0.5, inference_steps=4),
    "plain": SONG | dict(audio_codes=codes(26), duration=None, audio_cover_strength=0, inference_steps=3),
    "latent": SONG | dict(inference_steps=3, latent_shift=0.25, latent_rescale=0.8),
    "empty": dict(caption="", lyrics="", duration=10, seed=4294967295, noise="torch-cpu", inference_steps=2),
    "too_long": SONG | dict(caption="slow and loud, " * 60, lyrics="la la la, hey hey\n" * 400, inference_steps=2),
}
# The loop with guidance.
BASE = {
    "adg": SONG | dict(guidance="adg", shift=3, inference_steps=12),
    "interval": SONG | dict(cfg_interval_start=0.25, cfg_interval_end=0.75, solver="heun", inference_steps=8),
    "heun_adg": SONG | dict(guidance="adg", solver="heun", inference_steps=6, duration=10.7),
    "unguided": SONG | dict(guidance_scale=1, inference_steps=10),
    "sde": SONG | dict(solver="sde", inference_steps=8, guidance_scale=4),
    "velocity": SONG | dict(velocity_norm_threshold=0.8, velocity_ema_factor=0.3, inference_steps=10),
    "timesteps": SONG | dict(timesteps="1,0.9,0.7,0.45,0.2,0.05,0", guidance_scale=3),
    "cover_half": SONG | dict(audio_codes=codes(26), duration=None, audio_cover_strength=0.5, inference_steps=8),
    "cover_noise": SONG | dict(audio_codes=codes(26), duration=None, cover_noise_strength=0.35, inference_steps=10),
}
BRIEF = {name: COMMON[name] | dict(inference_steps=8) for name in ("preset", "odd_frames", "codes")}
CASES = {
    "acestep-v15-turbo": COMMON | TURBO,
    "acestep-v15-base": COMMON | BASE,
    "acestep-v15-sft": {"adg": BASE["adg"], "cover_half": BASE["cover_half"]},
    "acestep-v15-xl-turbo": COMMON,
    "acestep-v15-xl-base": BRIEF | {"adg": BASE["adg"]},
    "acestep-v15-xl-sft": {"interval": BASE["interval"]},
}


def philox(key, counters):
    """Philox4x32-10 (Salmon et al. 2011): four words for each counter. counters [n, 4] as uint64 holding 32 bits."""
    c = [counters[:, i].astype(np.uint64) for i in range(4)]
    k0, k1, low = key & 0xFFFFFFFF, key >> 32, np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def noise_ace(seed, stream, count):
    """Two numbers from each block: two 53-bit uniforms, Box and Muller."""
    j = np.arange(count // 2, dtype=np.uint64)
    words = np.stack([j, j * 0, j * 0 + np.uint64(stream), j * 0], axis=1)
    r = philox(seed, words)
    a, b = r[0] << np.uint64(32) | r[1], r[2] << np.uint64(32) | r[3]
    u = ((a >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53
    turns = (b >> np.uint64(11)).astype(np.float64) * 2.0**-53
    radius = np.sqrt(-2 * np.log(u))
    pairs = np.stack([radius * np.cos(2 * np.pi * turns), radius * np.sin(2 * np.pi * turns)], axis=1)
    return torch.from_numpy(pairs.reshape(-1).astype(np.float32))


def give_sde_noise(model, seeds):
    """Every renoise() with no noise of its own is an SDE step."""
    steps = iter(range(1, 1000))

    def renoise(x, t, noise=None):
        if noise is None:
            stream = next(steps)
            noise = torch.stack([noise_ace(seed, stream, x[0].numel()).reshape(x[0].shape) for seed in seeds])
        return type(model).renoise(model, x, t, noise)

    model.renoise = renoise


def official_arguments(request, is_turbo):
    """Our names and presets in theirs."""
    r = dict(inference_steps=8, shift=3.0, guidance_scale=1.0) if is_turbo else dict(
        inference_steps=50, shift=1.0, guidance_scale=7.0
    )
    r.update({key: value for key, value in request.items() if value is not None})
    has_codes = "audio_codes" in r
    solver = r.get("solver", "euler")
    arguments = dict(
        captions=r["caption"],
        lyrics="[Instrumental]" if r.get("instrumental") else r["lyrics"],
        vocal_language=r.get("vocal_language", "unknown"),
        bpm=r.get("bpm"),
        key_scale=r.get("keyscale", ""),
        time_signature=r.get("timesignature", ""),
        use_random_seed=False,
        seed=",".join(str(seed) for seed in seeds_of(request)),
        batch_size=r.get("batch_size", 1),
        audio_duration=len(re.findall("audio_code", r["audio_codes"])) / 5 if has_codes else r["duration"],
        audio_code_string=r.get("audio_codes", ""),
        infer_method="sde" if solver == "sde" else "ode",
        sampler_mode="heun" if solver == "heun" else "euler",
        use_adg=r.get("guidance") == "adg",
        timesteps=[float(t) for t in r["timesteps"].split(",")] if "timesteps" in r else None,
    )
    for name in """inference_steps shift guidance_scale cfg_interval_start cfg_interval_end velocity_norm_threshold
            velocity_ema_factor dcw_enabled dcw_mode dcw_scaler dcw_high_scaler dcw_wavelet audio_cover_strength
            cover_noise_strength latent_shift latent_rescale""".split():
        if name in r:
            arguments[name] = r[name]
    return arguments


def seeds_of(request):
    return [request["seed"] + i for i in range(request.get("batch_size", 1))]


def excerpts(audio):
    """[2, samples] -> [3, 240, 2]"""
    middle = (audio.shape[1] - AUDIO_SAMPLES) // 2
    starts = [0, middle, audio.shape[1] - AUDIO_SAMPLES]
    return torch.stack([audio[:, start : start + AUDIO_SAMPLES].T for start in starts])


def run(program, name, request, first, tensors):
    give_sde_noise(program.model, seeds_of(request))
    texts = []
    tokenizer = program.text_tokenizer
    program.text_tokenizer = lambda text, **options: texts.append(tokenizer(text, **options)) or texts[-1]
    program.text_tokenizer.pad_token_id = tokenizer.pad_token_id
    result = program.generate_music(**official_arguments(request, program.is_turbo_model()))
    program.text_tokenizer = tokenizer
    assert result["success"], result["error"]

    extra = result["extra_outputs"]
    audio = torch.stack([item["tensor"] for item in result["audios"]])
    latents = extra["pred_latents"]
    assert audio.abs().max() < 1, "the limiter acted: what it left is not what the decoder made"
    tensors[f"{name}.latents"] = latents[:, ::FRAME_STEP]
    tensors[f"{name}.audio"] = torch.stack([excerpts(item) for item in audio])
    if first:
        seed, frames = request["seed"], latents.shape[1]
        noise = torch.randn(1, frames, 64, generator=torch.Generator().manual_seed(seed))
        tensors[f"{name}.noise"] = noise[0, ::FRAME_STEP]
    print(f"{name}: {list(latents.shape)}, latents {latents.std():.3f}, audio {audio.std():.3f} peak {audio.abs().max():.3f}")
    ids = [text.input_ids[0].tolist() for text in texts[:2]]
    return dict(
        name=name,
        request={key: value for key, value in request.items() if value is not None},
        frames=latents.shape[1],
        caption_ids=ids[0],
        lyric_ids=ids[1],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, type=pathlib.Path)
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    program = open_program(options.official, options.checkpoint)
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    variant = dit_directory(options.checkpoint).name
    tensors, cases = {}, []
    for name, request in CASES[variant].items():
        cases.append(run(program, name, request, not cases, tensors))
    stem = variant.removeprefix("acestep-v15-")
    options.out.mkdir(parents=True, exist_ok=True)
    stored = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    (options.out / f"{stem}.safetensors").write_bytes(stored)
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
    (options.out / f"{stem}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
