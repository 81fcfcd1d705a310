#!/usr/bin/env python3
"""What the official program's planner makes of a request, from the request to the audio codes.

    make_planning_goldens.py --official CHECKOUT --checkpoint TINY --qwen DIRECTORY [--out tests/data/song]
                             [--only NAME ...]

Writes planning.json: requests in this program's fields, and what the official generate_music(), create_sample(),
format_sample() and understand_music() make of them on a tiny random planner, in float32 on a CPU. Nothing in between is
written here: the requests go through the official request handling, LLMHandler and its PyTorch loops, its constrained
decoding and its parser. TINY is made by `make-tiny-checkpoint TINY --planner`; DIRECTORY holds Qwen3's
tokenizer_config.json, whose chat template is used.

LLMHandler.initialize() would choose devices, back ends and a length limit by the machine. Its fields are set by hand
instead, as it sets them for its PyTorch back end on a CPU: llm, llm_tokenizer, llm_backend "pt", llm_initialized, device
"cpu", dtype float32, constrained_processor (longest duration 600 s, as on its largest machines; no list of genres, which
its repository does not hold) and, through set_global_gpu_config(), the same 600 s for the number of tokens.

The temperature is 0: the official PyTorch loop then takes the largest logit. Choices of a random model can be close, and
float32 sums differ by the order of adding: for every choice the distance from the second best is looked at, those made
inside the constrained decoding too (the language, the end of a caption, the end of the genres), and a request with a
choice closer than MARGIN is left out and named. (The end of the genres compares probabilities above 1e-12 only: the rest
is 0 for both.)

Each request is planned in both profiles. `official` is the program as it is. `default` differs as spec/lm.md 0.3 says, and
only there: its constrained decoding is DefaultProcessor of lm_grammar_walks.py (D1, D3, D4, D5, D12, D13), the rest is in
DefaultPlanner (D8, D10, D18, the value sets of 6.3) and in fill_given() (D23). `met` are the differences that a request met
on its way; one that met none must be the same in both profiles, or this script fails.

Songs of a length that nobody knows are cut at 600 s: the DiT takes no more. On `no-metas-at-all` the official program
crashes (D10). With --only, the other requests of planning.json stay as they are; all of them take a quarter of an hour, most
of it in captions and lyrics that a random model never ends.

A request holds no control characters, so there are none in `song`; and only values of spec/lm.md 4.2, so `refused` are
the fields of `song` that it cannot hold.
"""
import argparse
import json
import pathlib
import re
import sys
import types

import torch
from loguru import logger

MARGIN = 1e-4
FLOOR = 1e-12
LONGEST = 600

# ---- requests ------------------------------------------------------------------------------------------------------

KOREAN = "[Verse]\n\"밤의 노래\": 너와 나\n빛나는 도시, '별'의 바다\n\n[Chorus]\n노래해: 오늘 밤"
JAPANESE = "[Verse]\n夜の歌を「歌う」: 君と\n光る街で'踊ろう'\n[Chorus]\n夜の: \"光\""
CHINESE = "[Verse]\n夜光在流: “歌”\n我唱'歌', 你听: 夜的\n\n[Chorus]\n歌: 光"
ENGLISH = "[Verse]\nla la la, I'm singing in the night\n\n[Chorus]\noh yeah: \"hey\""
ALL = {"bpm": 96, "keyscale": "F# minor", "timesignature": "4"}

PLAIN = {"use_cot_caption": False}  # a random model seldom ends a caption

COMPOSE = {
    "nothing": {"caption": "upbeat pop with female vocals", "duration": 10},
    "nothing-guided": {"caption": "slow piano at night", "lyrics": ENGLISH, "duration": 12.4, "lm_cfg_scale": 2},
    "chinese-caption": {"caption": "夜光: 流行", "lyrics": CHINESE, "duration": 10, "lm_cfg_scale": 2},
    "two-lines": {"caption": "bass drum", "duration": 10, "lm_cfg_scale": 2},
    "empty": {"duration": 10, "lm_cfg_scale": 2, **PLAIN},
    "no-duration": {"caption": "slow piano at night", "lyrics": ENGLISH, **PLAIN, "thinking": False},
    "no-duration-codes": {"caption": "a short song", **PLAIN},
    "bpm": {"caption": "drum and bass", "bpm": 174, "duration": 10, **PLAIN},
    "bpm-guided": {"caption": "drum and bass", "bpm": 174, "duration": 12.4, "lm_cfg_scale": 2, **PLAIN},
    "key": {"caption": "ballad", "lyrics": ENGLISH, "keyscale": "Bb major", "duration": 10, "lm_cfg_scale": 2, **PLAIN},
    "time": {"caption": "waltz", "timesignature": "3", "duration": 10, "lm_cfg_scale": 2, **PLAIN},
    "bpm-key": {"caption": "folk", "bpm": 90, "keyscale": "A minor", "duration": 30.5, **PLAIN},
    "key-time": {"caption": "march", "keyscale": "C major", "timesignature": "2", "duration": 30.5, "lm_cfg_scale": 2,
                 **PLAIN},
    "bpm-time": {"caption": "six eight", "bpm": 60, "timesignature": "6", "duration": 12.4, **PLAIN},
    "bpm-key-time": {"caption": "guitar", **ALL, **PLAIN, "thinking": False},
    "all": {"caption": "all given: bpm, key", "lyrics": ENGLISH, **ALL, "duration": 10},
    "all-guided": {"caption": "all given: bpm, key", "lyrics": ENGLISH, **ALL, "duration": 30.5, "lm_cfg_scale": 2},
    "plain": {"caption": "keep 'my': caption", "duration": 10, "lm_cfg_scale": 2, **PLAIN},
    "plain-no-language": {"caption": "bass", "lyrics": ENGLISH, "duration": 12.4, **PLAIN, "use_cot_language": False},
    "no-metas": {"caption": "as it is", "lyrics": ENGLISH, "bpm": 100, "duration": 10, "use_cot_metas": False,
                 "lm_cfg_scale": 2},
    "no-metas-at-all": {"caption": "as it is", "lyrics": ENGLISH, "use_cot_metas": False},
    "instrumental": {"caption": "orchestra", "instrumental": True, "duration": 10, "lm_cfg_scale": 2, **PLAIN},
    "negative": {"caption": "clear voice", "duration": 10, "lm_cfg_scale": 2,
                 "lm_negative_prompt": " low quality: 'noise' ", **PLAIN},
    "negative-nothing": {"caption": "clear voice", "duration": 10, "lm_cfg_scale": 2.5,
                         "lm_negative_prompt": " NO USER INPUT ", **PLAIN},
    "korean": {"caption": "밤의 발라드: '느린'", "lyrics": KOREAN, "vocal_language": "ko", "duration": 12.4,
               "lm_cfg_scale": 2, **PLAIN},
    "japanese": {"caption": "夜の\"シティポップ\"", "lyrics": JAPANESE, "vocal_language": "ja", "duration": 10,
                 "lm_cfg_scale": 2, **PLAIN},
    "chinese": {"caption": "夜光: 流行", "lyrics": CHINESE, "duration": 30.5, "lm_cfg_scale": 2, **PLAIN},
    "batch": {"caption": "two of them", "bpm": 120, "duration": 10, "batch_size": 2, "lm_cfg_scale": 2, **PLAIN},
    "codes-given": {"caption": "has codes", "lyrics": ENGLISH, "audio_codes": "<|audio_code_5|><|audio_code_63999|>",
                    **PLAIN},
}  # fmt: skip
WRITE = {
    "write": {"caption": "a soft love song for a quiet evening"},
    "write-korean": {"caption": "밤의 노래", "vocal_language": "ko"},
    "write-instrumental": {"caption": "piano: 'slow'", "instrumental": True},
    "write-nothing": {"vocal_language": "yue"},
}
FORMAT = {
    "format": {"caption": "guitar pop", "lyrics": ENGLISH},
    "format-metas": {"caption": "guitar", "lyrics": ENGLISH, **ALL, "duration": 30.5},
    "format-language": {"caption": "city pop", "lyrics": JAPANESE, "vocal_language": "ja", "bpm": 110},
    "format-nothing": {},
}
UNDERSTAND = {
    "understand": {"audio_codes": "<|audio_code_18953|><|audio_code_13833|><|audio_code_7|>"},
    "understand-many": {"audio_codes": "".join(f"<|audio_code_{n * 7919 % 64000}|>" for n in range(50))},
}

# ---- the official program --------------------------------------------------------------------------------------------


class Margins:
    """The smallest distance between the best and the second best of all choices."""

    def __init__(self):
        self.smallest = float("inf")

    def of(self, values):
        finite = values[torch.isfinite(values)]
        if finite.numel() > 1:
            best = torch.topk(finite, 2).values
            self.see(float(best[0] - best[1]))

    def see(self, distance):
        self.smallest = min(self.smallest, abs(distance))


def import_official(checkout):
    import transformers  # noqa: F401  before its look for torchaudio finds the empty module below

    sys.path.insert(0, str(pathlib.Path(checkout).resolve()))
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # imported for audio files, of which there are none here
    backends = types.ModuleType("acestep.llm_backend_compat")  # about vLLM, and missing from some checkouts
    backends.get_vllm_preflight_warning = lambda *_: None
    sys.modules["acestep.llm_backend_compat"] = backends
    from acestep import constrained_logits_processor, gpu_config, inference, llm_inference

    logger.remove()
    llm_inference.print = lambda *a, **k: None
    config = gpu_config.get_gpu_config(48)
    assert config.max_duration_with_lm == LONGEST
    gpu_config.set_global_gpu_config(config)
    return inference, llm_inference, constrained_logits_processor


def load_tokenizer(directory, qwen):
    from transformers import PreTrainedTokenizerFast

    template = json.loads((qwen / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    return PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"), eos_token="<|im_end|>",
                                   pad_token="<|endoftext|>", chat_template=template,
                                   clean_up_tokenization_spaces=False)  # fmt: skip


def load_model(directory):
    from transformers import Qwen3ForCausalLM

    model, report = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    # tied: the files hold no head, and no prefix before the names
    assert not report["unexpected_keys"] and set(report["missing_keys"]) <= {"lm_head.weight"}, report
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    return model.eval()


def watched(base, State, margins):
    """The constrained decoding, with the choices that it makes itself looked at."""

    class Watched(base):
        met = set()

        def __call__(self, input_ids, scores):
            self.raw = scores.clone()
            free = not self.user_field_token_queue
            row = self.raw[0]
            if free and self.state == State.LANGUAGE_VALUE and not self.accumulated_token_ids:
                if self.user_provided_metadata["language"] is None:
                    margins.of(row[sorted(self.language_prefix_tree[()])])
            if free and self.state == State.GENRES_VALUE and self.accumulated_value.strip():
                probability = torch.softmax(row, dim=-1)
                others = probability.clone()
                others[self.newline_token] = 0
                if max(float(others.max()), float(probability[self.newline_token])) > FLOOR:
                    rest = row.clone()
                    rest[self.newline_token] = float("-inf")
                    margins.see(float(row[self.newline_token] - rest.max()))
            if free and self.state == State.CAPTION_VALUE and self.caption_after_newline:
                margins.of(row)
            return super().__call__(input_ids, scores)

    return Watched


def marked(base, State):
    """The default profile's constrained decoding, which notes where the official one would have chosen differently."""

    class Marked(base):
        def __call__(self, input_ids, scores):
            state, free, raw = self.state, not self.user_field_token_queue, scores.clone()
            out = super().__call__(input_ids, scores)
            if free and state == State.CAPTION_VALUE and self.user_provided_metadata["caption"] is None:
                raw[0, self.backtick_token] = float("-inf")
                self.note("D12", out, raw + self.audio_code_mask)
            if free and state == State.GENRES_VALUE:
                self.note("D12", out, raw)
            if state == State.COMPLETED:
                self.note("D13", out, raw + self.audio_code_mask)
            return out

        def note(self, name, ours, theirs):
            if int(torch.argmax(ours)) != int(torch.argmax(theirs)):
                self.met.add(name)

        def _get_allowed_tokens_for_fixed_string(self, fixed):
            ours, theirs = super()._get_allowed_tokens_for_fixed_string(fixed), self.official_name_tokens(fixed)
            if ours != theirs:
                self.met.add("D1")
            return ours

        def official_name_tokens(self, fixed):
            """The longest single token that begins what is left of a name."""
            rest = fixed[self.position_in_state :]
            for length in range(len(rest), 0, -1):
                ids = self.tokenizer.encode(rest[:length])
                if len(ids) == 1:
                    return ids
            raise AssertionError(fixed)

        def discards(self, token):
            discarded = super().discards(token)
            if discarded:
                self.met.add("D3")
            return discarded

        def update_state(self, token):
            genres = self.state == State.GENRES_VALUE and not self.user_field_token_queue
            super().update_state(token)
            if genres and self.state != State.GENRES_VALUE:
                self.met.add("D5")

    return Marked


class Pieces:
    """The tokenizer as DefaultProcessor reads it: with the text and the bytes of every token."""

    def __init__(self, tokenizer, vocabulary_class):
        backend = tokenizer.backend_tokenizer
        self.tokenizer = tokenizer
        self.texts = [backend.decode([i], skip_special_tokens=False) for i in range(len(tokenizer))]
        model = json.loads(backend.to_str())["model"]["vocab"]
        table = sys.modules[vocabulary_class.__module__].BYTES
        self.bytes = {i: bytes(table[c] for c in token) for token, i in model.items()}
        self.eos_token_id = tokenizer.eos_token_id

    def __len__(self):
        return len(self.texts)

    def encode(self, text, add_special_tokens=False):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids):
        return self.tokenizer.decode(ids)


def planner_classes(llm_inference, margins):
    class Planner(llm_inference.LLMHandler):
        """The official planner, which keeps what it was asked and what it wrote."""

        def begin(self):
            self.calls, self.texts = [], []
            self.language, self.detect = "given", False  # the request's; whether the planner's is taken
            self.constrained_processor.met = set()
            margins.smallest = float("inf")

        def _run_pt_single(self, **arguments):
            self.calls.append(arguments)
            self.texts.append(super()._run_pt_single(**arguments))
            return self.texts[-1]

        def _sample_tokens(self, logits, temperature):
            assert temperature == 0 and logits.shape[0] == 1
            chosen = super()._sample_tokens(logits, temperature)
            margins.of(logits[0])
            return chosen

    class DefaultPlanner(Planner):
        """With the differences of spec/lm.md 0.3 that are outside the constrained decoding."""

        given = {}

        def generate_with_stop_condition(self, user_metadata=None, target_duration=None, **arguments):
            if target_duration and target_duration > 0:  # 4.9
                target_duration = min(max(target_duration, 10), LONGEST)
            self.given = user_metadata or {}
            if user_metadata is None and not arguments["use_cot_metas"]:
                self.constrained_processor.met.add("D10")
            return super().generate_with_stop_condition(
                user_metadata=self.given, target_duration=target_duration, **arguments
            )

        def generate_from_formatted_prompt(self, formatted_prompt, cfg=None, **arguments):
            if cfg["generation_phase"] == "understand":
                self.given = cfg["user_metadata"] or {}
            return super().generate_from_formatted_prompt(formatted_prompt, cfg, **arguments)

        def _sample_tokens(self, logits, temperature):
            """D3: a token after a caption's line that does not continue it is not written; the place is masked again."""
            processor = self.constrained_processor
            chosen = super()._sample_tokens(logits, temperature)
            if not processor.discards(int(chosen)):
                return chosen
            return super()._sample_tokens(processor(torch.zeros(1, 0), processor.raw.clone()), temperature)

        def parse_lm_output(self, text):
            """6.3"""
            text = re.sub(r"<\|im_end\|>|<\|endoftext\|>", "", text)
            metadata, codes = super().parse_lm_output(text)
            sets = {
                "keyscale": self.constrained_processor.valid_keyscales,
                "language": self.constrained_processor.valid_languages,
                "timesignature": {"2", "3", "4", "6"},
            }
            for field, values in sets.items():
                if field in metadata and metadata[field] not in values and metadata[field] != self.given.get(field):
                    del metadata[field]
            if str(metadata.get("caption", ""))[:1] in ("'", '"'):
                raise SystemExit("D9: a caption in quotes has to be read here too")
            if self.language in ("", "unknown") and "language" in metadata:  # D8: the key that the caller looks for
                metadata["vocal_language"] = metadata["language"]
                if self.detect:
                    self.constrained_processor.met.add("D8")
            return metadata, codes

        def _extract_lyrics_from_output(self, text):
            lyrics = super()._extract_lyrics_from_output(text)
            if re.match(r"(?i)\s*#", lyrics):
                raise SystemExit("D18: lyrics with a heading have to be read here too")
            return lyrics

    return {"official": Planner, "default": DefaultPlanner}


class Dit:
    """Takes what the official program hands over, and ends the song there."""

    def prepare_seeds(self, count, seeds, random_seed):
        return list(range(count)), ""

    def generate_music(self, captions, lyrics, bpm, key_scale, time_signature, vocal_language, audio_duration,
                       audio_code_string):  # fmt: skip
        self.given = {"caption": captions, "lyrics": lyrics, "bpm": bpm, "keyscale": key_scale,
                      "timesignature": time_signature, "vocal_language": vocal_language, "duration": audio_duration}
        self.codes = audio_code_string
        return {"success": False, "error": "enough", "audios": [], "status_message": "", "extra_outputs": {}}


# ---- runs ------------------------------------------------------------------------------------------------------------


def numbers(codes):
    return [int(n) for n in re.findall(r"<\|audio_code_(\d+)\|>", codes or "")]


def known(song):
    """What is known of a song: no empty texts, no lengths and tempos that are none."""
    kept = {}
    for name, value in song.items():
        if name in ("bpm", "duration"):
            if value and value > 0:
                kept[name] = value
        elif value:
            kept[name] = value
    return kept


def compose(inference, planner, request):
    dit = Dit()
    lyrics = "[Instrumental]" if request.get("instrumental") else request.get("lyrics", "")
    switches = {k: request[k] for k in ("thinking", "use_cot_metas", "use_cot_caption", "use_cot_language",
                                        "lm_negative_prompt", "audio_codes") if k in request}  # fmt: skip
    planner.language, planner.detect = request.get("vocal_language", ""), request.get("use_cot_language", True)
    params = inference.GenerationParams(
        caption=request.get("caption", ""), lyrics=lyrics, vocal_language=request.get("vocal_language", "unknown"),
        bpm=request.get("bpm"), keyscale=request.get("keyscale", ""), timesignature=request.get("timesignature", ""),
        duration=request.get("duration", -1.0), lm_temperature=0.0, lm_cfg_scale=request.get("lm_cfg_scale", 1),
        **switches,
    )  # fmt: skip
    count = request.get("batch_size", 1)
    result = inference.generate_music(dit, planner, params, inference.GenerationConfig(batch_size=count, seeds=[1]))
    if result.error != "enough":
        raise SystemExit(f"the official program failed: {result.error}")
    lists = dit.codes if isinstance(dit.codes, list) else [dit.codes]
    song = known(dit.given)
    if request.get("instrumental"):
        song.pop("lyrics")
    return song, [numbers(codes) for codes in lists]


def fields_of(result):
    if not result.success:
        raise SystemExit(f"the official program failed: {result.error}")
    return known({"caption": result.caption, "lyrics": result.lyrics, "bpm": result.bpm, "keyscale": result.keyscale,
                  "timesignature": result.timesignature, "vocal_language": result.language,
                  "duration": result.duration})  # fmt: skip


def write(inference, planner, request):
    return fields_of(inference.create_sample(planner, request.get("caption", ""), request.get("instrumental", False),
                                             request.get("vocal_language"), temperature=0.0)), []  # fmt: skip


def draft(inference, planner, request):
    names = {"bpm": "bpm", "duration": "duration", "keyscale": "keyscale", "timesignature": "timesignature",
             "vocal_language": "language"}  # fmt: skip
    given = {names[k]: v for k, v in request.items() if k in names}
    return fields_of(inference.format_sample(planner, request.get("caption", ""), request.get("lyrics", ""), given,
                                             temperature=0.0)), []  # fmt: skip


def understand(inference, planner, request):
    return fields_of(inference.understand_music(planner, request["audio_codes"], temperature=0.0)), numbers(
        request["audio_codes"]
    )


def fill_given(song, request, met):
    if "vocal_language" not in song and request.get("vocal_language", "unknown") != "unknown":
        song["vocal_language"] = request["vocal_language"]
        met.add("D23")


def without_controls(text):
    return "".join(c for c in text if c in "\t\n\r\x85" or not (c < " " or "\x7f" <= c < "\xa0"))


def refused(song, processor):
    """Names of the values that are none (4.2)."""
    wrong = []
    if song.get("keyscale", "C major") not in processor.valid_keyscales:
        wrong.append("keyscale")
    if song.get("vocal_language", "en") not in processor.valid_languages:
        wrong.append("vocal_language")
    if song.get("timesignature", "4") not in ("2", "3", "4", "6"):
        wrong.append("timesignature")
    if not 30 <= song.get("bpm", 30) <= 300:
        wrong.append("bpm")
    if not 10 <= song.get("duration", 10) <= LONGEST:
        wrong.append("duration")
    return wrong


def run(use, name, request, inference, planner, profile, margins):
    planner.begin()
    steps = {"compose": compose, "write": write, "format": draft, "understand": understand}
    song, lists = steps[use](inference, planner, request)
    processor = planner.constrained_processor
    if use == "format" and profile == "default":
        fill_given(song, request, processor.met)
    song = {k: without_controls(v) if isinstance(v, str) else v for k, v in song.items()}
    case = {"song": song, "refused": refused(song, processor), "met": sorted(processor.met)}
    if use == "compose":
        if len({tuple(codes) for codes in lists}) > 1:
            raise SystemExit(f"{name}: without chance every item of a batch is the same")
        case["codes"] = lists[0][: 5 * LONGEST]
    for arguments, text in zip(planner.calls, planner.texts):
        ids = planner.llm_tokenizer.encode(arguments["formatted_prompt"], add_special_tokens=False)
        if arguments["generation_phase"] == "codes":
            case["codes_prompt"] = ids
            if arguments["cfg_scale"] > 1:
                other = planner._build_unconditional_prompt(
                    arguments["caption"], arguments["lyrics"], arguments["cot_text"], arguments["negative_prompt"], "codes"
                )
                case["negative_prompt"] = planner.llm_tokenizer.encode(other, add_special_tokens=False)
        elif use == "compose":
            case |= {"prompt": ids, "text": text}
    return case, margins.smallest


def check_met(case):
    """Without a difference met, the profiles are the same."""
    if "official" not in case or "default" not in case or case["default"]["met"]:
        return
    official, default = ({k: v for k, v in case[p].items() if k not in ("margin", "met")} for p in ("official", "default"))
    if official != default:
        raise SystemExit(f"{case['name']}: the profiles differ, and no difference was met")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--qwen", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/data/song"))
    parser.add_argument("--only", nargs="+", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    inference, llm_inference, module = import_official(options.official)
    import lm_grammar_walks

    directory = options.checkpoint / "acestep-5Hz-lm-tiny"
    tokenizer, model, margins = load_tokenizer(directory, options.qwen), load_model(directory), Margins()
    base, State = module.MetadataConstrainedLogitsProcessor, module.FSMState
    missing = str(options.checkpoint / "no list of genres")
    processors = {"official": watched(base, State, margins)(tokenizer, genres_vocab_path=missing, max_duration=LONGEST)}
    pieces = Pieces(tokenizer, lm_grammar_walks.Vocabulary)
    default = marked(lm_grammar_walks.make_default(watched(base, State, margins), State), State)
    processors["default"] = default(pieces, genres_vocab_path=missing, max_duration=LONGEST)
    processors["default"].prepare()
    planners = {}
    for profile, kind in planner_classes(llm_inference, margins).items():
        planner = kind()
        planner.llm, planner.llm_tokenizer, planner.llm_backend = model, tokenizer, "pt"
        planner.device, planner.dtype, planner.llm_initialized = "cpu", torch.float32, True
        planner.constrained_processor, planner.disable_tqdm = processors[profile], True
        planners[profile] = planner
    path = options.out / "planning.json"
    kept = {case["name"]: case for case in json.loads(path.read_text(encoding="utf-8"))} if options.only else {}
    cases = []
    for use, requests in (("compose", COMPOSE), ("write", WRITE), ("format", FORMAT), ("understand", UNDERSTAND)):
        for name, request in requests.items():
            if options.only and name not in options.only:
                cases += [kept[name]] if name in kept else []
                continue
            case = {"name": name, "use": use, "request": request}
            for profile, planner in planners.items():
                try:
                    case[profile], margin = run(use, name, request, inference, planner, profile, margins)
                except SystemExit as problem:
                    print(f"{name}, {profile}: {problem}")
                    continue
                case[profile]["margin"] = margin
                print(f"{name}, {profile}: margin {margin:.2g}, {len(case[profile].get('text', ''))} characters, "
                      f"{len(case[profile].get('codes', []))} codes, met {case[profile]['met']}", flush=True)  # fmt: skip
                if margin < MARGIN:
                    print(f"    left out: a choice closer than {MARGIN}")
                    del case[profile]
            check_met(case)
            if "official" in case or "default" in case:
                cases.append(case)
    lines = (json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    path.write_text("[" + ",\n".join(lines) + "]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
