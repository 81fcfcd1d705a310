#!/usr/bin/env python3
"""Reference for src/audio/audio_level.c: the official program's limiter, peak normalisation and fades.

Usage: audio_level.py OFFICIAL_SOURCE OUTPUT

OFFICIAL_SOURCE is a checkout of ACE-Step 1.5; its acestep/audio_utils.py does the work. OUTPUT is text: for every case
one line "peak_db fade_in_s fade_out_s frames" (peak_db above 0 means no normalisation), then per frame the input and the
output, left and right, as hexadecimal floats.
"""
import importlib.util
import sys
import types

import torch


def load_audio_utils(root):
    # Only its level functions are called: the libraries that it reads and writes files with need not be installed.
    for name in ("torchaudio", "soundfile", "loguru"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["loguru"].logger = None
    spec = importlib.util.spec_from_file_location("audio_utils", f"{root}/acestep/audio_utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(root, path):
    official = load_audio_utils(root)
    generator = torch.Generator().manual_seed(5)
    cases = [  # scale, normalize, peak_db, fade_in, fade_out, frames
        (0.2, True, -1.0, 0.0, 0.0, 40),  # amplified
        (0.9, True, -1.0, 0.0, 0.0, 40),  # limited, then attenuated
        (0.9, False, 0.0, 0.0, 0.0, 40),  # limited only
        (0.1, False, 0.0, 0.001, 0.0005, 120),
        (0.4, True, -6.0, 0.0007, 0.0011, 97),  # odd lengths
        (0.4, True, 0.0, 0.0, 1.0, 33),  # a fade longer than the song
        (0.4, True, -3.3, 0.002, 0.002, 96),  # fades that overlap completely
        (0.4, True, -1.0, 0.00002, 0.00002, 20),  # one frame each
        (1e-7, True, -1.0, 0.0, 0.0, 20),  # silence
    ]
    with open(path, "w") as out:
        for scale, normalize, db, fade_in, fade_out, frames in cases:
            wave = torch.randn(1, 2, frames, generator=generator) * scale
            peak = wave.abs().amax(dim=[1, 2], keepdim=True)
            result = wave / peak.clamp(min=1.0) if torch.any(peak > 1.0) else wave
            result = result[0]
            if normalize:
                result = official.normalize_audio(result, db)
            result = official.apply_fade(result, round(fade_in * 48000), round(fade_out * 48000))
            print(db if normalize else 1.0, fade_in, fade_out, frames, file=out)
            for i in range(frames):
                values = (wave[0, 0, i], wave[0, 1, i], result[0, i], result[1, i])
                print(*(float(v).hex() for v in values), file=out)


if __name__ == "__main__":
    main(*sys.argv[1:])
