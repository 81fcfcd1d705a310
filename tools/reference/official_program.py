"""The official ACE-Step 1.5 program, April 2026, put together around a checkpoint on disk: its own request handling,
prompts, conditioning, models and sampler loops, in float32 on the CPU.

Only what is between the parts is written here. The official class that holds them together also downloads models, picks
devices and starts user interfaces; none of that is wanted, so the parts are taken one by one.
"""

import importlib
import json
import pathlib
import sys
import types

import torch
from safetensors.torch import load_file

MODELING = {
    "acestep-v15-turbo": "turbo.modeling_acestep_v15_turbo",
    "acestep-v15-base": "base.modeling_acestep_v15_base",
    "acestep-v15-sft": "sft.modeling_acestep_v15_base",
    "acestep-v15-xl-turbo": "xl_turbo.modeling_acestep_v15_xl_turbo",
    "acestep-v15-xl-base": "xl_base.modeling_acestep_v15_xl_base",
    "acestep-v15-xl-sft": "xl_sft.modeling_acestep_v15_xl_base",
}

MIXINS = """
    audio_codes.AudioCodesMixin batch_prep.BatchPrepMixin conditioning_batch.ConditioningBatchMixin
    conditioning_embed.ConditioningEmbedMixin conditioning_masks.ConditioningMaskMixin
    conditioning_target.ConditioningTargetMixin conditioning_text.ConditioningTextMixin
    generate_music.GenerateMusicMixin generate_music_decode.GenerateMusicDecodeMixin
    generate_music_execute.GenerateMusicExecuteMixin generate_music_payload.GenerateMusicPayloadMixin
    generate_music_request.GenerateMusicRequestMixin init_service_catalog.InitServiceCatalogMixin
    init_service_memory_basic.InitServiceMemoryBasicMixin init_service_offload_context.InitServiceOffloadContextMixin
    io_audio.IoAudioMixin memory_utils.MemoryUtilsMixin metadata_utils.MetadataMixin padding_utils.PaddingMixin
    progress.ProgressMixin prompt_utils.PromptMixin service_generate.ServiceGenerateMixin
    service_generate_execute.ServiceGenerateExecuteMixin service_generate_outputs.ServiceGenerateOutputsMixin
    service_generate_request.ServiceGenerateRequestMixin task_utils.TaskUtilsMixin vae_decode.VaeDecodeMixin
    vae_decode_chunks.VaeDecodeChunksMixin vae_encode.VaeEncodeMixin vae_encode_chunks.VaeEncodeChunksMixin
""".split()


def use_checkout(official):
    """Makes the modules of a checkout importable."""
    from pytorch_wavelets import DWT1DForward  # noqa: F401  without it the official program silently skips DCW

    official = pathlib.Path(official).resolve()
    if not (official / "acestep/models/turbo").is_dir():
        raise SystemExit(f"{official} is not a checkout of ACE-Step 1.5: acestep/models/turbo is missing")
    sys.path.insert(0, str(official))


def dit_directory(checkpoint):
    found = [d for d in sorted(pathlib.Path(checkpoint).iterdir()) if d.name in MODELING]
    if len(found) != 1:
        raise SystemExit(f"{checkpoint} should hold one DiT directory, not {[d.name for d in found]}")
    return found[0]


def load_dit(checkpoint, dtype=torch.float32):
    """The official AceStepConditionGenerationModel; every tensor must be there and none left over."""
    directory = dit_directory(checkpoint)
    module = importlib.import_module("acestep.models." + MODELING[directory.name])
    model, report = module.AceStepConditionGenerationModel.from_pretrained(
        directory, dtype=dtype, attn_implementation="sdpa", output_loading_info=True
    )
    assert not any(report.values()), report
    return model.eval()


def load_silence(checkpoint):
    """[1, frames, 64]"""
    silence = torch.load(dit_directory(checkpoint) / "silence_latent.pt", weights_only=True)
    return silence.transpose(1, 2).contiguous()


def load_text_encoder(checkpoint, dtype=torch.float32):
    from transformers import Qwen3Model

    model, report = Qwen3Model.from_pretrained(
        pathlib.Path(checkpoint) / "Qwen3-Embedding-0.6B", dtype=dtype, output_loading_info=True
    )
    assert not any(report.values()), report
    return model.eval()


def load_tokenizer(checkpoint):
    from transformers import PreTrainedTokenizerFast

    file = pathlib.Path(checkpoint) / "Qwen3-Embedding-0.6B/tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<|endoftext|>")


def load_vae(checkpoint, dtype=torch.float32):
    """diffusers' AutoencoderOobleck. It ties the encoder's last width (mean and scale: 128) to the first one, which a
    tiny checkpoint has made narrow: that convolution is replaced by one of the width in the file."""
    from diffusers import AutoencoderOobleck
    from torch.nn.utils import weight_norm

    directory = pathlib.Path(checkpoint) / "vae"
    vae = AutoencoderOobleck.from_config(json.loads((directory / "config.json").read_text()))
    weights = load_file(directory / "diffusion_pytorch_model.safetensors")
    last = vae.encoder.conv2
    out = weights["encoder.conv2.bias"].numel()
    vae.encoder.conv2 = weight_norm(torch.nn.Conv1d(last.in_channels, out, last.kernel_size[0], padding=last.padding[0]))
    vae.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=True)
    return vae.to(dtype).eval()


def program_class():
    """The official handler without its package's __init__, which would import everything."""
    name = "acestep.core.generation.handler"
    parent = importlib.import_module("acestep.core.generation")
    package = types.ModuleType(name)
    package.__path__ = [str(pathlib.Path(path) / "handler") for path in parent.__path__]
    sys.modules[name] = package
    parts = []
    for mixin in MIXINS:
        module, part = mixin.split(".")
        parts.append(getattr(importlib.import_module(f"{name}.{module}"), part))
    return type("OfficialProgram", tuple(parts), {})


def open_program(official, checkpoint):
    """An object whose generate_music() is the official one."""
    use_checkout(official)
    program = program_class()()
    program.device, program.dtype, program.sample_rate, program.batch_size = "cpu", torch.float32, 48000, 1
    program.offload_to_cpu = program.offload_dit_to_cpu = program.debug_stats = False
    program.disable_tqdm = True
    program.use_mlx_dit = program.use_mlx_vae = False
    program.mlx_decoder = program.mlx_vae = None
    program.current_offload_cost = 0.0
    program._update_progress_estimate = lambda **unused: None
    program._start_diffusion_progress_estimator = lambda **unused: (None, None)
    program.model = load_dit(checkpoint)
    program.config = program.model.config
    program.text_encoder = load_text_encoder(checkpoint)
    program.text_tokenizer = load_tokenizer(checkpoint)
    program.vae = load_vae(checkpoint)
    program.silence_latent = load_silence(checkpoint)
    return program
