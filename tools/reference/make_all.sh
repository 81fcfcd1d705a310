#!/bin/sh
# Writes all reference values again: make_all.sh PYTHON OFFICIAL TOOL [QWEN]
#   PYTHON    of the environment that README.md describes
#   OFFICIAL  a checkout of ACE-Step 1.5, April 2026
#   TOOL      the program make-tiny-checkpoint, from a build
#   QWEN      Qwen3's tokenizer.json, beside its tokenizer_config.json; without it the values of the tokenizer and of the
#             planner's prompts are left as they are
set -eu

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
fi
python=$(command -v "$1") official=$(cd "$2" && pwd) tool=$(realpath "$3") qwen=${4:+$(realpath "$4")}
cd "$(dirname "$0")/../.."
reference=tools/reference
tiny=$(mktemp -d)
trap 'rm -rf "$tiny"' EXIT

"$python" $reference/make_format_goldens.py
if [ -n "$qwen" ]; then
    "$python" $reference/make_tokenizer_goldens.py "$qwen"
    "$python" $reference/make_lm_grammar_goldens.py "$official" "$qwen"
    "$python" $reference/make_lm_prompt_goldens.py --official "$official" --tokenizer "$(dirname "$qwen")"
    "$tool" "$tiny/turbo-planner" --planner
    "$python" $reference/make_planning_goldens.py --official "$official" --checkpoint "$tiny/turbo-planner" \
        --qwen "$(dirname "$qwen")"
fi
"$python" $reference/make_fuzz_seeds.py
"$python" $reference/audio_level.py "$official" tests/data/audio/level.txt
"$python" $reference/make_vae_goldens.py
"$python" $reference/make_diffusion_goldens.py --official "$official" --out tests/data/diffusion
"$python" $reference/make_lm_engine_goldens.py --out tests/data/lm
for variant in turbo base sft xl-turbo xl-base xl-sft; do
    "$tool" "$tiny/$variant" --variant "$variant"
    "$python" $reference/make_song_goldens.py --official "$official" --checkpoint "$tiny/$variant" --out tests/data/song
done
"$python" $reference/make_listening_goldens.py --official "$official" --checkpoint "$tiny/turbo" --out tests/data
for variant in turbo xl-turbo; do
    "$python" $reference/make_model_goldens.py --official "$official" --checkpoint "$tiny/$variant" \
        --out tests/data/model/$variant.safetensors
done
