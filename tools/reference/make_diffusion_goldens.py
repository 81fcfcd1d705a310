#!/usr/bin/env python3
"""Reference values for tests/diffusion: noise, schedules, guidance, DCW, repainting, whole sampling loops.

    make_diffusion_goldens.py --official CHECKOUT --out tests/data/diffusion

CHECKOUT is the official ACE-Step-1.5 repository. Needs torch (CPU), transformers, pytorch_wavelets, safetensors. The
loops are the official generate_audio() itself in float32, with a small analytic velocity in the place of the
transformer; the solvers that only acestep.cpp has are written out here in float64 from their formulas, and so are the
two Philox generators. Nothing here comes from the C code.
"""

import argparse
import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

CHANNELS = 64
MASK64 = (1 << 64) - 1

# ---- noise ------------------------------------------------------------------------------------------------------


def philox(counter, key):
    """Philox4x32-10 on arrays: counter is four uint32 arrays, key two integers."""
    c = [np.asarray(x, dtype=np.uint64) for x in counter]
    k = list(key)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (b >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            b & low,
            (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            a & low,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def split_key(seed):
    return seed & 0xFFFFFFFF, seed >> 32


def noise_ace(seed, stream, count):
    """Our own generator, from its definition in noise.h, in float64."""
    j = np.arange((count + 1) // 2, dtype=np.uint64)
    s = np.full_like(j, stream)
    r = philox([j & np.uint64(0xFFFFFFFF), j >> np.uint64(32), s & np.uint64(0xFFFFFFFF), s >> np.uint64(32)],
               split_key(seed))
    a, b = (r[0] << np.uint64(32)) | r[1], (r[2] << np.uint64(32)) | r[3]
    u = ((a >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53
    turns = (b >> np.uint64(11)).astype(np.float64) * 2.0**-53
    radius = np.sqrt(-2 * np.log(u))
    out = np.empty(2 * len(j))
    out[0::2] = radius * np.cos(2 * math.pi * turns)
    out[1::2] = radius * np.sin(2 * math.pi * turns)
    return out[:count].astype(np.float32)


def noise_cuda(seed, threads, count):
    """torch.randn on CUDA: curand's formulas, the transcendental functions in float64."""
    threads = threads or count
    k = np.arange(count, dtype=np.uint64)
    sub, turn = k % np.uint64(threads), k // np.uint64(threads)
    offset, number = turn // np.uint64(4), (turn % np.uint64(4)).astype(int)
    r = philox([offset & np.uint64(0xFFFFFFFF), offset >> np.uint64(32), sub & np.uint64(0xFFFFFFFF),
                sub >> np.uint64(32)], split_key(seed))
    x = np.where(number < 2, r[0], r[2]).astype(np.float32)
    y = np.where(number < 2, r[1], r[3]).astype(np.float32)
    f = np.float32
    u = x * f(2.0**-32) + f(2.0**-33)
    scale = f(f(2.3283064e-10) * f(6.2831855))
    v = (y.astype(np.float64) * float(scale) + float(scale / f(2))).astype(np.float32)
    s = np.sqrt(f(-2) * np.log(u.astype(np.float64)).astype(np.float32))
    wave = np.where(number % 2 == 0, np.sin(v.astype(np.float64)), np.cos(v.astype(np.float64))).astype(np.float32)
    return s * wave


def fnv1a(state, words):
    for w in words:
        state = ((state ^ int(w)) * 0x100000001B3) & MASK64
    return state


FNV_START = 0xCBF29CE484222325
CPU_FRAMES = 20000


def torch_cpu_noise(seed, frames):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, frames, CHANNELS, generator=generator)


def cpu_noise_case(seed, every_length):
    """FNV-1a over the bits of the longest noise, and over the running hash after each frame: one number that stands
    for every length, because the noise of a length is the beginning of the noise of a longer one (checked here)."""
    whole = torch_cpu_noise(seed, CPU_FRAMES)
    lengths = range(1, CPU_FRAMES + 1) if every_length else [1, 2, 3, 128, 1000, 4999, 12345]
    for frames in lengths:
        assert torch.equal(torch_cpu_noise(seed, frames), whole[:, :frames]), (seed, frames)
    running, rolled = FNV_START, FNV_START
    for row in whole[0].numpy().view(np.uint32):
        running = fnv1a(running, row)
        rolled = fnv1a(rolled, [running & 0xFFFFFFFF, running >> 32])
    return {"seed": str(seed), "hash": f"{rolled:016x}", "first": [float(v) for v in whole[0, 0, :4]]}


def make_noise(every_length):
    seeds = [0, 1, 42, 1234, 2**32 - 1, 2**32, 2**32 + 42, 2**63 - 1]
    known = [  # Random123's known answers: counter, key, result
        [[0] * 4, [0] * 2],
        [[0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2],
        [[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]],
    ]
    answers = [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ]
    for (counter, key), answer in zip(known, answers):
        assert [int(w) for w in philox(counter, key)] == answer
    published = {  # torch CUDA outputs as published, four digits
        0: [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631],
        42: [0.1940, 2.1614, -0.1721, 0.8491, -1.9244, 0.6530, -0.6494, -0.8175, 0.5280, -1.2753],
    }
    for seed, values in published.items():
        assert np.abs(noise_cuda(seed, 0, 10) - np.array(values)).max() < 6e-5
    tensors, cuda = {}, []
    for seed in (0, 42, 2**40 + 7):
        for threads, count in ((0, 640), (256, 2560)):
            name = f"cuda_{len(cuda)}"
            tensors[name] = torch.from_numpy(noise_cuda(seed, threads, count))
            cuda.append({"seed": str(seed), "threads": threads, "tensor": name})
    ace = []
    for seed, stream in ((0, 0), (7, 1), (2**63 + 5, 2**33 + 1)):
        name = f"ace_{len(ace)}"
        tensors[name] = torch.from_numpy(noise_ace(seed, stream, 1001))
        ace.append({"seed": str(seed), "stream": str(stream), "tensor": name})
    return {
        "philox": [{"counter": c, "key": k, "random": a} for (c, k), a in zip(known, answers)],
        "published_cuda": [{"seed": s, "values": v} for s, v in published.items()],
        "torch_cpu": [cpu_noise_case(s, every_length and s == 1234) for s in seeds],
        "torch_cpu_frames": CPU_FRAMES,
        "cuda": cuda,
        "ace": ace,
    }, tensors


# ---- the official loops with an analytic velocity ---------------------------------------------------------------


class Velocity:
    """v = tanh(x A' + bias[kind] + t slope) + 0.2 * (x of the frame before), times 1.1; in float64, then float32.
    kind: 0 cond, 1 uncond, 2 and 3 the same for the non-cover condition."""

    def __init__(self):
        g = torch.Generator().manual_seed(5)
        self.a = (torch.randn(CHANNELS, CHANNELS, generator=g) * 0.12).float()
        self.bias = (torch.randn(4, CHANNELS, generator=g) * 0.5).float()
        self.slope = (torch.randn(CHANNELS, generator=g) * 0.5).float()

    def __call__(self, x, t, kind):
        """x [T, 64] float32, t float, kind 0..3."""
        x = x.double()
        before = torch.cat([torch.zeros(1, CHANNELS, dtype=torch.float64), x[:-1]])
        v = torch.tanh(x @ self.a.double().T + self.bias[kind].double() + t * self.slope.double()) + 0.2 * before
        return (v * 1.1).float()


class Stage:
    """The `self` of generate_audio(): official methods where they matter, the analytic velocity as decoder."""

    def __init__(self, model_class, velocity, seeds):
        self.velocity, self.seeds = velocity, seeds
        self.null_condition_emb = torch.zeros(1, 1, 8)
        self.timesteps = []
        for name in ("prepare_noise", "get_x0_from_noise"):
            setattr(self, name, types.MethodType(getattr(model_class, name), self))
        self.official_renoise = types.MethodType(model_class.renoise, self)
        self.step = -1
        self.last_t = None

    def renoise(self, x, t, noise=None):
        """The SDE draws from torch's global generator; here from a stated one, stream = step + 1."""
        if noise is None:
            noise = torch.stack([
                torch.from_numpy(noise_ace(s, self.step + 1, x[0].numel())).reshape(x[0].shape) for s in self.seeds
            ])
        return self.official_renoise(x, t, noise)

    def prepare_condition(self, is_covers, src_latents, **_):
        batch, frames, _ = src_latents.shape
        cover = bool(is_covers.any())
        marker = 1.0 if cover else 2.0
        return (torch.full((batch, 1, 8), marker), torch.ones(batch, 1),
                torch.full((batch, frames, 2 * CHANNELS), marker))

    def decoder(self, hidden_states, timestep, encoder_hidden_states, context_latents, use_cache, **_):
        if use_cache:  # the corrector of Heun's method runs without
            self.step += 1
            self.timesteps.append(float(timestep[0]))
        out = []
        for x, t, enc, context in zip(hidden_states, timestep, encoder_hidden_states, context_latents):
            kind = 2 * int(context[0, 0] == 2.0) + int(enc[0, 0] == 0.0)
            out.append(self.velocity(x, float(t), kind))
        return torch.stack(out), None


def run_official(module, velocity, seeds, frames, arguments):
    cls = module.AceStepConditionGenerationModel
    stage = Stage(cls, velocity, seeds)
    batch = len(seeds)
    g = torch.Generator().manual_seed(77)
    source = torch.randn(batch, frames, CHANNELS, generator=g)
    result = cls.generate_audio(
        stage, text_hidden_states=None, text_attention_mask=None, lyric_hidden_states=None,
        lyric_attention_mask=None, refer_audio_acoustic_hidden_states_packed=None, refer_audio_order_mask=None,
        src_latents=source, chunk_masks=None, is_covers=torch.ones(batch), seed=list(seeds),
        silence_latent=torch.zeros(1, frames, CHANNELS), **({"use_progress_bar": False} | arguments))
    return result["target_latents"], stage.timesteps, source


def loop_cases():
    """name, variant, request (C option names), seeds, frames, repaint mask rows."""
    two, off = [3, 2**33 + 9], {"dcw_enabled": False}
    cases = []

    def add(name, variant, frames=13, seeds=two, mask=None, **options):
        cases.append({"name": name, "variant": variant, "frames": frames, "seeds": seeds, "mask": mask,
                      "options": options})

    for solver in ("euler", "heun", "sde"):
        add(f"turbo_{solver}", "turbo", solver=solver)
        add(f"turbo_{solver}_plain", "turbo", solver=solver, **off)
        add(f"sft_{solver}", "sft", solver=solver, steps=6)
        add(f"base_{solver}_even", "base", solver=solver, steps=5, frames=16)
        for guidance in ("apg", "adg"):
            add(f"sft_{solver}_{guidance}_interval", "sft", solver=solver, steps=6, guidance=guidance,
                cfg_interval_start=0.3, cfg_interval_end=0.85)
            add(f"base_{solver}_{guidance}", "base", solver=solver, steps=5, guidance=guidance)
        add(f"sft_{solver}_cfg", "sft", solver=solver, steps=5, guidance="cfg", guidance_scale=3.0)
        add(f"sft_{solver}_unguided", "sft", solver=solver, steps=5, guidance_scale=1.0)
        add(f"turbo_{solver}_clamp", "turbo", solver=solver, velocity_norm_threshold=0.5)
        add(f"turbo_{solver}_ema", "turbo", solver=solver, velocity_ema_factor=0.3)
        add(f"sft_{solver}_clamp_ema", "sft", solver=solver, steps=5, velocity_norm_threshold=0.6,
            velocity_ema_factor=0.2)
        rows = [[0] * 4 + [1] * 5 + [0] * 4, [1] * 6 + [0] * 7]
        add(f"turbo_{solver}_repaint", "turbo", solver=solver, mask=rows, repaint_mode="balanced",
            repaint_strength=0.5)
        add(f"sft_{solver}_repaint", "sft", solver=solver, steps=5, mask=rows, repaint_mode="conservative")
        add(f"turbo_{solver}_cover", "turbo", solver=solver, cover_strength=0.6)
        add(f"sft_{solver}_cover", "sft", solver=solver, steps=5, cover_strength=0.5)
    for mode in ("low", "high", "double", "pix"):
        add(f"turbo_dcw_{mode}", "turbo", dcw_mode=mode, dcw_scaler=0.2, dcw_high_scaler=0.1)
    for wavelet in ("db2", "db4", "sym4", "sym8", "coif1"):
        add(f"turbo_{wavelet}", "turbo", dcw_wavelet=wavelet, dcw_scaler=0.2, dcw_high_scaler=0.1)
        add(f"sft_{wavelet}_even", "sft", steps=5, frames=20, dcw_wavelet=wavelet, dcw_scaler=0.2,
            dcw_high_scaler=0.1)
    add("turbo_conservative", "turbo", mask=[[0] * 6 + [1] * 3 + [0] * 4, [1] * 13], repaint_mode="conservative")
    add("turbo_aggressive", "turbo", mask=[[0] * 6 + [1] * 3 + [0] * 4, [0] * 13], repaint_mode="aggressive")
    add("turbo_holes", "turbo", mask=[[0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0], [0] * 12 + [1]],
        repaint_mode="balanced", repaint_strength=0.9)
    add("sft_balanced", "sft", steps=7, mask=rows, repaint_mode="balanced", repaint_strength=0.3)
    for strength in (0.0, 0.13, 1.0):
        add(f"turbo_cover_{strength}", "turbo", cover_strength=strength)
    add("sft_cover_0", "sft", steps=4, cover_strength=0.0)
    for strength in (0.3, 0.5, 1.0):
        add(f"turbo_cover_noise_{strength}", "turbo", cover_noise_strength=strength, cover_strength=0.5)
        add(f"sft_cover_noise_{strength}", "sft", steps=9, cover_noise_strength=strength, cover_strength=0.7)
    add("turbo_shift_1", "turbo", shift=1.0)
    add("turbo_shift_2.4_steps_5", "turbo", shift=2.4, steps=5)
    add("turbo_timesteps", "turbo", timesteps=[0.97, 0.8, 0.66, 0.31, 0.2, 0.0])
    add("sft_timesteps", "sft", timesteps=[1.0, 0.8, 0.55, 0.2, 0.0])
    add("sft_timesteps_not_to_0", "sft", solver="heun", timesteps=[1.0, 0.8, 0.55, 0.2, 0.05])
    add("sft_shift_3", "sft", steps=7, shift=3.0)
    add("turbo_one_step", "turbo", steps=1)
    add("turbo_one_frame", "turbo", frames=1)
    add("turbo_20_steps", "turbo", steps=20)
    add("sft_one_item", "sft", steps=6, seeds=[3])
    return cases


REPAINT = {"aggressive": lambda s: (0.0, 0), "conservative": lambda s: (1.0, 25),
           "balanced": lambda s: (1 - s, round(25 * (1 - s)))}


def official_arguments(case):
    """The names of generate_audio() for a case's options, on top of the checkpoint's preset."""
    o = case["options"]
    turbo = case["variant"] == "turbo"
    solver = o.get("solver", "euler")
    a = {
        "infer_steps": o.get("steps", 8 if turbo else 50), "shift": o.get("shift", 3.0 if turbo else 1.0),
        "infer_method": "sde" if solver == "sde" else "ode", "sampler_mode": "heun" if solver == "heun" else "euler",
        "diffusion_guidance_scale": o.get("guidance_scale", 1.0 if turbo else 7.0),
        "use_adg": o.get("guidance") == "adg",
        "cfg_interval_start": o.get("cfg_interval_start", 0.0), "cfg_interval_end": o.get("cfg_interval_end", 1.0),
        "velocity_norm_threshold": o.get("velocity_norm_threshold", 0.0),
        "velocity_ema_factor": o.get("velocity_ema_factor", 0.0),
        "dcw_enabled": o.get("dcw_enabled", True), "dcw_mode": o.get("dcw_mode", "double"),
        "dcw_scaler": o.get("dcw_scaler", 0.05), "dcw_high_scaler": o.get("dcw_high_scaler", 0.02),
        "dcw_wavelet": o.get("dcw_wavelet", "haar"), "audio_cover_strength": o.get("cover_strength", 1.0),
        "cover_noise_strength": o.get("cover_noise_strength", 0.0),
    }
    if "timesteps" in o:
        a["timesteps"] = torch.tensor(o["timesteps"], dtype=torch.float64)
    if case["mask"]:
        ratio, crossfade = REPAINT[o["repaint_mode"]](o.get("repaint_strength", 0.5))
        g = torch.Generator().manual_seed(78)
        clean = torch.randn(len(case["seeds"]), case["frames"], CHANNELS, generator=g)
        a |= {"repaint_mask": torch.tensor(case["mask"]).bool(), "clean_src_latents": clean,
              "repaint_crossfade_frames": crossfade, "repaint_injection_ratio": ratio}
    return a


def with_plain_cfg(module, run):
    """Runs with plain classifier-free guidance in the place of APG."""
    apg = module.apg_forward
    module.apg_forward = lambda pred_cond, pred_uncond, guidance_scale, **_: module.cfg_forward(
        pred_cond, pred_uncond, guidance_scale)
    try:
        return run()
    finally:
        module.apg_forward = apg


def make_loops(modules, velocity):
    tensors, cases = {}, []
    for case in loop_cases():
        arguments, module = official_arguments(case), modules[case["variant"]]

        def run():
            return run_official(module, velocity, case["seeds"], case["frames"], arguments)

        latents, _, source = with_plain_cfg(module, run) if case["options"].get("guidance") == "cfg" else run()
        assert torch.isfinite(latents).all()
        tensors["out_" + case["name"]] = latents.contiguous()
        shape = f"{len(case['seeds'])}x{case['frames']}"
        tensors["source_" + shape] = source
        if case["mask"]:
            tensors["clean_" + shape] = arguments["clean_src_latents"]
        cases.append(case | {"shape": shape, "seeds": [str(s) for s in case["seeds"]]})
    return cases, tensors


# ---- acestep.cpp's solvers, in float64 --------------------------------------------------------------------------

ROCK4 = {
    2: ([0.10671314855438, 0.1296319693918818, 0.006097984609869632],
        [-0.179313593132677, 0.522354978881996, -0.268020263243268, 0.0410644459848542, -0.0673692676033641,
         0.534974252895965],
        [0.727428506710284, -0.281882500610754, -0.366883181811475, 0.684341322628128]),
    5: ([0.04102541073974864, 0.04936734181284644, 0.006437548414781547, 0.0565596481991614, 0.0300867406800562,
         0.06301337991392048, 0.06092514503458917, 0.07122116739390529, 0.1014508394981259],
        [-0.171097214294784, 0.471021380996139, -0.235432301175529, 0.0305165148305403, -0.0508758913107147,
         0.491537536121394],
        [0.653766630051757, -0.239717659625342, -0.34212462537356, 0.634842894408973]),
    10: ([0.01595000101933615, 0.01929098080329146, 0.006813771091892661, 0.02218226060548395, 0.03194763050768121,
          0.02468951849041972, 0.06429708643843554, 0.02687566748685502, 0.09885398134767075, 0.02879687047315825,
          0.1332911334324939, 0.03051024265050759, 0.1666672556601528, 0.03211180339134084, 0.1993212628717513,
          0.03387840798530223, 0.2348117800966209, 0.03672204698847085, 0.2881723275817451],
         [-0.145179937599982, 0.477661231491125, -0.248988404183759, 0.00930730703798092, -0.0330359105371527,
          0.481074258113903],
         [0.685711960310753, -0.269724027269246, -0.349535907736682, 0.619566456617273]),
}


def rms(a):
    return float(torch.sqrt((a * a).mean()))


def dpm3m_step(x, v, past, t, t_next, _):
    if not past:
        w = v
    elif len(past) == 1:
        w = 1.5 * v - 0.5 * past[-1][0]
    else:
        w = 23 / 12 * v - 16 / 12 * past[-1][0] + 5 / 12 * past[-2][0]
    return x - w * (t - t_next)


def stork4_step(x, v, past, t, t_next, substeps):
    """x, v [T, 64] float64; past: list of (velocity, step length), oldest first."""
    dt = t - t_next
    if not past:
        return x - v * dt
    terms = []
    v1, h1 = past[-1]
    if h1 != 0:
        d1 = (v1 - v) / h1
        if not (rms(v) > 0 and rms(d1) * abs(h1) > 5 * rms(v)):
            terms.append(d1)
    if terms and len(past) > 1:
        v2, h2 = past[-2]
        if h2 != 0 and abs(h1 * h2 * (h1 + h2)) >= 1e-30:
            d2 = 2 / (h1 * h2 * (h1 + h2)) * (v2 * h1 - v1 * (h1 + h2) + v * h2)
            if not (rms(v) > 0 and rms(d2) * h1 * h1 > 5 * rms(v)):
                terms.append(d2)

    def taylor(delta):
        out = v
        for n, d in enumerate(terms, 1):
            out = out + d * delta**n / math.factorial(n)
        return out

    r, a, b = ROCK4[substeps]
    earlier, y = x, x - dt * r[0] * v
    times = [t, t - dt * r[0]]  # of `earlier` and `y`
    for j in range(2, substeps + 1):
        mu, kappa = -dt * r[2 * (j - 2) + 1], r[2 * (j - 2) + 2]
        earlier, y = y, mu * taylor(times[1] - t) + (1 + kappa) * y - kappa * earlier
        times = [times[1], mu + (1 + kappa) * times[1] - kappa * times[0]]
    c = times[1] - t
    f = [taylor(c), taylor(c - dt * a[0]), taylor(c - dt * (a[1] + a[2])), taylor(c - dt * (a[3] + a[4] + a[5]))]
    return y - dt * sum(w * s for w, s in zip(b, f))


def make_peer_loops(velocity, corrector_class):
    """Whole runs of dpm3m and stork4: the last step is x - v t; DCW as the official loop applies it."""
    steps = {"dpm3m": dpm3m_step, "stork4": stork4_step}
    cases, tensors = [], {}
    for name, solver, variant, options in (
        ("dpm3m_turbo", "dpm3m", "turbo", {}),
        ("dpm3m_sft", "dpm3m", "sft", {"steps": 12, "guidance_scale": 1.0, "dcw_enabled": False}),
        ("stork4_turbo", "stork4", "turbo", {}),
        ("stork4_turbo_5", "stork4", "turbo", {"stork_substeps": 5, "dcw_enabled": False}),
        ("stork4_turbo_2", "stork4", "turbo", {"stork_substeps": 2, "dcw_enabled": False}),
        ("stork4_sft", "stork4", "sft", {"steps": 12, "guidance_scale": 1.0, "dcw_enabled": False}),
    ):
        seeds, frames = [3, 11], 13
        n, shift = options.get("steps", 8), 3.0 if variant == "turbo" else 1.0
        ts = [1 - i / n for i in range(n)] + [0.0]
        ts = [shift * t / (1 + (shift - 1) * t) for t in ts]
        dcw = corrector_class(enabled=options.get("dcw_enabled", True))
        out = []
        for seed in seeds:
            x, past = torch_cpu_noise(seed, frames)[0].double(), []
            for i in range(n):
                v = velocity(x.float(), ts[i], 0).double()
                y = x - v * ts[i]
                if i == n - 1:
                    x = y
                else:
                    x = steps[solver](x, v, past, ts[i], ts[i + 1], options.get("stork_substeps", 10))
                x = dcw.apply(x[None].float(), y[None].float(), ts[i])[0].double() if dcw.is_active else x
                past = (past + [(v, ts[i] - ts[i + 1])])[-3:]
            out.append(x)
        tensors["out_" + name] = torch.stack(out).float()
        cases.append({"name": name, "variant": variant, "frames": frames, "seeds": [str(s) for s in seeds],
                      "mask": None, "shape": f"2x{frames}", "options": {"solver": solver} | options})
    return cases, tensors


def make_steps():
    """Single solver steps, with histories that make every order of the Taylor polynomial happen."""
    g = torch.Generator().manual_seed(31)
    cases, tensors = [], {}
    for i, (solver, count, scale1, scale2, substeps, dts) in enumerate((
        ("dpm3m", 0, 1, 1, 10, []), ("dpm3m", 1, 1, 1, 10, [0.1]), ("dpm3m", 2, 1, 1, 10, [0.1, 0.2]),
        ("stork4", 0, 1, 1, 10, []), ("stork4", 1, 1, 1, 10, [0.1]), ("stork4", 1, 20, 1, 10, [0.1]),
        ("stork4", 2, 1, 1, 10, [0.1, 0.15]), ("stork4", 2, 1, 60, 10, [0.1, 0.15]),
        ("stork4", 2, 1, 1, 10, [0.0, 0.15]), ("stork4", 2, 1, 1, 10, [0.1, 0.0]),
        ("stork4", 2, 1, 1, 5, [0.1, 0.15]), ("stork4", 2, 1, 1, 2, [0.1, 0.15]),
    )):
        x, v, v1, v2 = (torch.randn(5, CHANNELS, generator=g) for _ in range(4))
        v1, v2 = v1 * scale1, v2 * scale2
        past = [(w.double(), h) for w, h in zip((v1, v2)[:count], dts)][::-1]
        step = dpm3m_step if solver == "dpm3m" else stork4_step
        y = step(x.double(), v.double(), past, 0.7, 0.55, substeps)
        for key, value in (("x", x), ("v", v), ("v1", v1), ("v2", v2), ("y", y.float())):
            tensors[f"step_{i}_{key}"] = value
        cases.append({"solver": solver, "count": count, "dts": dts, "substeps": substeps, "t": 0.7, "t_next": 0.55})
    return cases, tensors


# ---- single functions -------------------------------------------------------------------------------------------


def make_functions(modules):
    from acestep.models.common import apg_guidance as guidance
    from acestep.models.common.dcw_correction import DCWCorrector

    g = torch.Generator().manual_seed(9)
    tensors, apg, adg, dcw, repaint = {}, [], [], [], []

    def normal(frames, scale=1.0):
        return torch.randn(1, frames, CHANNELS, generator=g) * scale

    for frames, spread in ((1, 1.0), (17, 0.1), (31, 3.0)):  # below and above the norm threshold
        momentum = guidance.MomentumBuffer()
        for step in range(3):
            cond = normal(frames)
            uncond = cond + normal(frames, spread)
            out = guidance.apg_forward(cond, uncond, 5.5, momentum_buffer=momentum, dims=[1])
            name = f"apg_{len(apg)}"
            tensors |= {f"{name}_cond": cond, f"{name}_uncond": uncond, f"{name}_out": out}
            apg.append({"tensor": name, "scale": 5.5, "first": step == 0})
    for t, scale, spread in ((1.0, 7.0, 0.5), (0.3, 2.0, 0.1), (0.05, 7.0, 1e-4), (0.6, 0.5, 1.0), (0.9, 3.0, 20.0)):
        x, cond = normal(11), normal(11)
        uncond = cond + normal(11, spread)
        name = f"adg_{len(adg)}"
        out = guidance.adg_forward(x, cond, uncond, t, scale)
        tensors |= {f"{name}_x": x, f"{name}_cond": cond, f"{name}_uncond": uncond, f"{name}_out": out}
        adg.append({"tensor": name, "t": t, "scale": scale})
    for frames in (1, 2, 13, 16):
        x, y = normal(frames), normal(frames)
        tensors |= {f"dcw_{frames}_x": x, f"dcw_{frames}_y": y}
        for wavelet in ("haar", "db2", "db4", "sym4", "sym8", "coif1"):
            for mode in ("low", "high", "double", "pix"):
                if mode == "pix" and wavelet != "haar":
                    continue
                out = DCWCorrector(True, mode, 0.4, 0.3, wavelet).apply(x, y, 0.35)
                name = f"dcw_{frames}_{wavelet}_{mode}"
                tensors[name] = out.contiguous()
                dcw.append({"tensor": name, "frames": frames, "wavelet": wavelet, "mode": mode, "scaler": 0.4,
                            "high_scaler": 0.3, "t": 0.35})
    turbo = modules["turbo"]
    x, clean, noise = normal(23), normal(23), normal(23)
    tensors |= {"repaint_x": x, "repaint_clean": clean, "repaint_noise": noise}
    masks = [[0] * 10 + [1] * 5 + [0] * 8, [1] * 23, [0] * 23, [1] * 9 + [0] * 14, [0] * 20 + [1] * 3,
             [0, 0, 1, 0, 1, 1] + [0] * 17, [0] * 2 + [1] * 19 + [0] * 2]
    for i, mask in enumerate(masks):
        m = torch.tensor([mask]).bool()
        tensors[f"inject_{i}"] = turbo._repaint_step_injection(x, clean, m, 0.4, noise).contiguous()
        blends = []
        for crossfade in (1, 12, 25):
            name = f"blend_{i}_{crossfade}"
            tensors[name] = turbo._repaint_boundary_blend(x, clean, m, crossfade).contiguous()
            blends.append(crossfade)
        repaint.append({"mask": mask, "t": 0.4, "inject": f"inject_{i}", "crossfades": blends})
    return {"apg": apg, "adg": adg, "dcw": dcw, "repaint": repaint}, tensors


def make_schedules(modules, velocity):
    """The timesteps at which the official loops call the transformer."""

    def t_of(variant, **arguments):
        base = {"dcw_enabled": False, "diffusion_guidance_scale": 1.0}
        return run_official(modules[variant], velocity, [1], 1, base | arguments)[1]

    out = {"turbo": [], "turbo_custom": [], "base": [], "cover_noise": []}
    for shift in (1.0, 2.0, 3.0, 1.5, 4.7):
        for steps in (1, 2, 3, 5, 8, 13, 20):
            out["turbo"].append({"steps": steps, "shift": shift, "t": t_of("turbo", infer_steps=steps, shift=shift)})
        for steps in (1, 2, 3, 7, 30, 50, 51, 99, 200):
            out["base"].append({"steps": steps, "shift": shift, "t": t_of("base", infer_steps=steps, shift=shift)})
    for shift in (1.0, 2.0, 3.0):  # the tables, which the official code uses when no step count is given
        out["turbo"].append({"steps": 8, "shift": shift, "t": t_of("turbo", infer_steps=None, shift=shift)})
    for given in ([1.0], [0.97, 0.8, 0.66, 0.31, 0.2, 0.0, 0.0], [0.91, 0.9, 0.89, 0.88], [0.944, 0.1, 0.01],
                  [0.45],  # as far from 0.5 as from 0.4
                  [1 - i / 20 for i in range(20)]):
        t = t_of("turbo", timesteps=torch.tensor(given, dtype=torch.float64))
        out["turbo_custom"].append({"given": given, "t": t})
    for variant in ("turbo", "base"):
        for strength in (0.05, 0.25, 0.4, 0.75, 0.99, 1.0):
            for steps in (1, 6, 8):
                t = t_of(variant, infer_steps=steps, shift=3.0, cover_noise_strength=strength)
                out["cover_noise"].append({"variant": variant, "steps": steps, "shift": 3.0, "strength": strength,
                                           "t": t})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", required=True, type=Path, help="checkout of ACE-Step-1.5")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--every-length", action="store_true", help="check torch's noise for every length (minutes)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.official))
    torch.set_num_threads(1)
    from loguru import logger

    logger.remove()
    from acestep.models.base import modeling_acestep_v15_base as base
    from acestep.models.common.dcw_correction import DCWCorrector
    from acestep.models.sft import modeling_acestep_v15_base as sft
    from acestep.models.turbo import modeling_acestep_v15_turbo as turbo

    modules, velocity = {"turbo": turbo, "sft": sft, "base": base}, Velocity()
    noise, tensors = make_noise(arguments.every_length)
    functions, more = make_functions(modules)
    steps, step_tensors = make_steps()
    loops, loop_tensors = make_loops(modules, velocity)
    peers, peer_tensors = make_peer_loops(velocity, DCWCorrector)
    tensors |= more | step_tensors | loop_tensors | peer_tensors
    tensors |= {"velocity_a": velocity.a, "velocity_bias": velocity.bias, "velocity_slope": velocity.slope}
    document = {"noise": noise, "schedules": make_schedules(modules, velocity), "steps": steps,
                "loops": loops + peers} | functions
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous().float() for k, v in tensors.items()}, arguments.out / "goldens.safetensors")
    (arguments.out / "goldens.json").write_text(json.dumps(document, indent=0) + "\n")
    print(f"{len(loops)} official loops, {len(peers)} of acestep.cpp's solvers, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
