"""Writes tests/data/model/<variant>.safetensors: what the official modules make of known inputs with the weights of a
tiny checkpoint (tools/make_tiny_checkpoint.c), in float32 on the CPU.

    make-tiny-checkpoint tiny/turbo --variant turbo
    python tools/reference/make_model_goldens.py --official ACE-STEP-1.5 --checkpoint tiny/turbo \
        --out tests/data/model/turbo.safetensors

ACE-STEP-1.5 is a checkout of the official repository (April 2026). Needs torch, transformers, safetensors,
vector_quantize_pytorch, and diffusers with its AceStep models: every result is compared with theirs, except where they
are known to differ (the timbre token of XL), and with the official code of the other families of the same architecture
(base, sft), which therefore need no goldens of their own.

The inputs are not stored: noise(seed, count) is exact in float32 and repeated in tests/model/golden.h, with the seeds
and sizes below.
"""

import argparse
import importlib
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

TEXT_SEED, LYRIC_SEED, TIMBRE_SEEDS = 1, 2, (3, 4)
ENC_SEED, CONTEXT_SEED, X_SEED, TOKENIZER_SEED, FSQ_SEED = 5, 6, 7, 8, 9
TEXT_TOKENS, LYRIC_TOKENS, REFERENCE_FRAMES, ENC_ROWS = 21, 40, 750, 63
PROMPT_TOKENS = 33
TIMESTEPS = [1.0, 5 / 7, 0.3]
SHORT, LONG = 37, 150  # frames; an odd number, and one whose 75 tokens are far wider than the tiny window of 16
TOKENIZER_FRAMES = 33  # two frames short of seven groups
CODES = 7
TOLERANCE = 1e-5
FAMILIES = {"2b": ["turbo", "base", "sft"], "xl": ["xl_turbo", "xl_base", "xl_sft"]}


def noise(seed, *shape):
    """float32 values in [-1, 1): an integer hash, exact everywhere."""
    h = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(seed * 0x9E3779B9 % 2**32)
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):
        h ^= h >> np.uint32(16)
        h *= np.uint32(multiplier)
    h ^= h >> np.uint32(16)
    values = ((h >> np.uint32(8)).astype(np.float64) / 2**23 - 1).astype(np.float32)
    return torch.from_numpy(values.reshape(shape))


def codes(count):
    return [(i * 9973 + 4711) % 64000 for i in range(count)]


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def check(name, ours, theirs):
    error = relative(ours, theirs)
    print(f"  {name}: {error:.1e}")
    assert error <= TOLERANCE, name


# ---- loading -------------------------------------------------------------------------------------------------------


def tensors_of(directory):
    state = {}
    for path in sorted(directory.glob("*.safetensors")):
        state.update(load_file(path))
    return {name: value.float() for name, value in state.items()}


def silence_of(directory):
    return torch.load(directory / "silence_latent.pt", weights_only=True).transpose(1, 2).contiguous()


def load_official(family, directory):
    suffix = {"turbo": "turbo", "base": "base", "sft": "base"}[family.replace("xl_", "")]
    name = f"modeling_acestep_v15_{'xl_' if family.startswith('xl_') else ''}{suffix}"
    module = importlib.import_module(f"acestep.models.{family}.{name}")
    config = module.AceStepConfig(**json.loads((directory / "config.json").read_text()))
    config._attn_implementation = "sdpa"
    model = module.AceStepConditionGenerationModel(config).float().eval()
    missing, unexpected = model.load_state_dict(tensors_of(directory), strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    return model


# ---- the official results ------------------------------------------------------------------------------------------


def velocity(model, frames, t, enc, stages=None):
    """One evaluation; `stages` collects the residual stream after proj_in and after every layer."""
    decoder, config = model.decoder, model.config
    hooks = []
    if stages is not None:
        hooks.append(decoder.layers[0].register_forward_pre_hook(lambda m, args: stages.append(args[0][0])))
        for layer in decoder.layers:
            hooks.append(layer.register_forward_hook(lambda m, args, out: stages.append(out[0][0])))
    time = torch.tensor([t], dtype=torch.float32)
    latent = config.audio_acoustic_hidden_dim
    out = decoder(
        hidden_states=noise(X_SEED, 1, frames, latent),
        timestep=time,
        timestep_r=time,
        attention_mask=None,
        encoder_hidden_states=enc,
        encoder_attention_mask=None,
        context_latents=noise(CONTEXT_SEED, 1, frames, config.in_channels - latent),
        use_cache=False,
    )[0]
    for hook in hooks:
        hook.remove()
    return out[0]


def dit_results(model, encoder_hidden):
    enc = noise(ENC_SEED, 1, ENC_ROWS, encoder_hidden)
    stages, results = [], {}
    results["dit.short"] = torch.stack([velocity(model, SHORT, t, enc) for t in TIMESTEPS])
    velocity(model, SHORT, TIMESTEPS[1], enc, stages)
    results["dit.stages"] = torch.stack(stages)
    results["dit.long"] = velocity(model, LONG, TIMESTEPS[2], enc)
    # guidance's other half: the null embedding in every row, as the official sampler repeats it
    null = model.null_condition_emb.expand(1, ENC_ROWS, -1)
    results["dit.null"] = velocity(model, SHORT, TIMESTEPS[1], null)
    return results


def condition_inputs(config):
    ones = lambda n: torch.ones(1, n, dtype=torch.long)
    references = [noise(seed, REFERENCE_FRAMES, config.timbre_hidden_dim) for seed in TIMBRE_SEEDS]
    return dict(
        text_hidden_states=noise(TEXT_SEED, 1, TEXT_TOKENS, config.text_hidden_dim),
        text_attention_mask=ones(TEXT_TOKENS),
        lyric_hidden_states=noise(LYRIC_SEED, 1, LYRIC_TOKENS, config.text_hidden_dim),
        lyric_attention_mask=ones(LYRIC_TOKENS),
        refer_audio_acoustic_hidden_states_packed=torch.stack(references),
        refer_audio_order_mask=torch.zeros(len(TIMBRE_SEEDS), dtype=torch.long),
    )


def silence_timbre(model, silence):
    reference = silence[:, : model.config.timbre_fix_frame]
    return model.encoder.timbre_encoder(reference, torch.zeros(1, dtype=torch.long))[0][0]


def tokenizer_results(model, silence):
    x = noise(TOKENIZER_SEED, 1, TOKENIZER_FRAMES, model.config.audio_acoustic_hidden_dim)
    _, indices, _ = model.tokenize(x, silence, torch.ones(1, TOKENIZER_FRAMES))
    given = torch.tensor(codes(CODES)).reshape(1, CODES, 1)
    quantised = model.tokenizer.quantizer.get_output_from_indices(given)
    return {
        "tokenizer.codes": indices.reshape(-1).float(),
        "detokenizer.latents": model.detokenize(quantised)[0],
    }


def fsq_results(model):
    """The quantiser without its projections, on values up to three times the range."""
    quantizer = model.tokenizer.quantizer
    layer, limit = quantizer.layers[0], quantizer.soft_clamp_input_value
    z = 3 * noise(FSQ_SEED, 1, 500, 6)
    _, indices = layer((z / limit).tanh() * limit)
    book = quantizer.codebooks[0]
    assert torch.equal(layer.codes_to_indices(book), torch.arange(64000, dtype=torch.int32))
    return {"fsq.codes": indices.reshape(-1).float(), "fsq.book": book[::97].clone()}


def official_results(model, silence):
    results = {"condition.enc": model.encoder(**condition_inputs(model.config))[0][0]}
    results["condition.silence"] = silence_timbre(model, silence)
    results.update(dit_results(model, model.null_condition_emb.shape[-1]))
    results.update(tokenizer_results(model, silence))
    results.update(fsq_results(model))
    return results


def text_results(directory):
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(**json.loads((directory / "config.json").read_text()))
    config._attn_implementation = "sdpa"
    model = Qwen3Model(config).float().eval()
    model.load_state_dict(tensors_of(directory))
    ids = torch.tensor([[(i * 37 + 11) % config.vocab_size for i in range(PROMPT_TOKENS)]])
    return {"text.hidden": model(ids).last_hidden_state[0], "text.embed": model.embed_tokens(ids)[0]}


# ---- against diffusers ---------------------------------------------------------------------------------------------


def renamed(state, prefix):
    table = [("proj_in.1.", "proj_in_conv."), ("proj_out.1.", "proj_out_conv."), (".q_proj.", ".to_q."),
             (".k_proj.", ".to_k."), (".v_proj.", ".to_v."), (".o_proj.", ".to_out.0."), (".q_norm.", ".norm_q."),
             (".k_norm.", ".norm_k.")]
    result = {}
    for name, value in state.items():
        if name.startswith(prefix):
            name = name[len(prefix):]
            for old, new in table:
                name = name.replace(old, new)
            result[name] = value
    return result


def built(cls, config, state, prefix, **extra):
    accepted = cls.__init__.__wrapped__.__code__.co_varnames if hasattr(cls.__init__, "__wrapped__") else ()
    model = cls(**{k: v for k, v in {**config, **extra}.items() if k in accepted}).eval()
    missing, unexpected = model.load_state_dict(renamed(state, prefix), strict=False)
    missing = [name for name in missing if name not in ("silence_latent", "null_condition_emb")]
    assert not missing and not unexpected, (missing, unexpected)
    return model


def compare_with_diffusers(results, model, silence, directory):
    from diffusers import AceStepTransformer1DModel
    from diffusers.pipelines.ace_step import modeling_ace_step as parts

    config = json.loads((directory / "config.json").read_text())
    state = tensors_of(directory)
    xl = "encoder_hidden_size" in config
    encoder = dict(config)
    for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
        encoder[key] = config.get("encoder_" + key, config[key])

    dit = built(AceStepTransformer1DModel, config, state, "decoder.")
    enc = noise(ENC_SEED, 1, ENC_ROWS, encoder["hidden_size"])
    for i, t in enumerate(TIMESTEPS):
        time, latent = torch.tensor([t]), config["audio_acoustic_hidden_dim"]
        v = dit(noise(X_SEED, 1, SHORT, latent), time, time, enc,
                noise(CONTEXT_SEED, 1, SHORT, config["in_channels"] - latent)).sample[0]
        check(f"DiT, t = {t:.2f}", v, results["dit.short"][i])

    condition = built(parts.AceStepConditionEncoder, encoder, state, "encoder.", layer_types=config["layer_types"])
    theirs = condition(**condition_inputs(model.config))[0][0]
    timbre = slice(LYRIC_TOKENS, LYRIC_TOKENS + len(TIMBRE_SEEDS))
    if xl:
        theirs[timbre] = results["condition.enc"][timbre]  # diffusers takes the first frame
    check("condition encoder", theirs, results["condition.enc"])

    tokenizer = built(parts.AceStepAudioTokenizer, encoder, state, "tokenizer.")
    x = noise(TOKENIZER_SEED, 1, TOKENIZER_FRAMES, config["audio_acoustic_hidden_dim"])
    _, indices = tokenizer.tokenize(x, silence)
    assert torch.equal(indices.reshape(-1).float(), results["tokenizer.codes"])
    detokenizer = built(parts.AceStepAudioTokenDetokenizer, encoder, state, "detokenizer.")
    quantised = model.tokenizer.quantizer.get_output_from_indices(torch.tensor(codes(CODES)).reshape(1, CODES, 1))
    check("detokenizer", detokenizer(quantised)[0], results["detokenizer.latents"])


def code_margin(model, silence):
    """How far, in levels, the values behind the codes stay from where rounding turns: a test of codes needs some."""
    values = []
    hook = model.tokenizer.quantizer.project_in.register_forward_hook(lambda m, args, out: values.append(out))
    tokenizer_results(model, silence)
    hook.remove()
    limit = model.tokenizer.quantizer.soft_clamp_input_value
    z = ((values[0] / limit).tanh() * limit).clamp(-1, 1)
    steps = torch.tensor(model.config.fsq_input_levels) - 1
    level = steps * (z + 1) / 2 + 0.5
    inside = z.abs() < 1
    return (level - level.round()).abs()[inside].min().item()


# ---- -------------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", required=True, type=pathlib.Path)
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.official.resolve()))
    torch.set_grad_enabled(False)

    directory = next(arguments.checkpoint.glob("acestep-v15-*"))
    families = FAMILIES["xl" if "-xl-" in directory.name else "2b"]
    silence = silence_of(directory)
    model = load_official(families[0], directory)
    results = official_results(model, silence)
    for family in families[1:]:
        other = official_results(load_official(family, directory), silence)
        assert all(torch.equal(results[name], other[name]) for name in results), family
    print(f"{directory.name}: {', '.join(families)} agree to the bit; against diffusers:")
    compare_with_diffusers(results, model, silence, directory)
    margin = code_margin(model, silence)
    print(f"  codes are {margin:.1e} levels from another rounding")
    assert margin > 1e-4

    results.update(text_results(arguments.checkpoint / "Qwen3-Embedding-0.6B"))
    save_file({name: value.contiguous().clone() for name, value in results.items()}, arguments.out)


if __name__ == "__main__":
    main()
