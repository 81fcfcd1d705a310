#!/bin/sh
# A pretended card's limits, at every command that makes or plans songs. Usage: test_limits.sh ACESTEP TINY_CHECKPOINTS
. "$(dirname "$0")/cli_support.sh"
unset ACESTEP_TIER_PROFILE ACESTEP_INIT_LLM ACESTEP_LM_MODEL_PATH
XDG_CONFIG_HOME=$place/none
MAX_CUDA_VRAM=4
export XDG_CONFIG_HOME MAX_CUDA_VRAM
model="--model $tiny/turbo"

# told WORDS...: the warning says all of it
told() {
    for words in "$@"; do
        grep -q "warning: .*$words" err && ok || bad "the warning lacks '$words'"
    done
}
facts() { told 'duration is 200 s' '4.0 GB' 'at most 180 s' 'without the language model' 'reduced to 180 s' 'batch size is 2' 'reduced to 1$'; }

# shellcheck disable=SC2086
s_11_every_command_keeps_to_the_limits() {
    run "long" $model --duration 200 --batch 2 --seed 3 --inference-steps 1 -o song.wav
    facts
    grep -q 'song.wav  180.00 s' out && [ ! -e song-2.wav ] && ok || bad "one song of 180 s"
    run plan "long" $model --duration 200 --batch 2
    facts
    printf '{"caption": "long", "duration": 200, "batch_size": 2, "seed": 3, "inference_steps": 1}' >saved.json
    run --request saved.json $model -o saved.wav
    facts
    run plan --request saved.json $model --json
    facts
    grep -q '"duration_s":180.000,"batch":1' out && ok || bad "the plan is of what will be made"
    cmp -s song.wav saved.wav && ok || bad "the same request, the same song"
    # a song made without a card, repeated on a small one
    MAX_CUDA_VRAM=24 "$acestep" "long" $model --duration 200 --seed 3 --inference-steps 1 -o large.wav >out 2>err && ok || bad "a large card"
    run --from large.wav $model -o small.wav
    told 'duration is 200 s' 'reduced to 180 s'
    run "planned" --model "$tiny/turbo-planner" --thinking --duration 200 --batch 2 --seed 3 --bpm 90 --keyscale "C major" \
        --timesignature 4 --codes-only
    told 'with the language model' 'reduced to 180 s'
    [ "$(grep -o 'audio_code_' out | wc -l)" -eq 900 ] && ok || bad "five codes a second of what is allowed"
}
s_11_every_command_keeps_to_the_limits

# S-16: what is asked for wins, with a warning
cp -r "$tiny/turbo-planner" named && lm=$(basename "$(ls -d named/*5Hz*)") && mv "named/$lm" named/acestep-5Hz-lm-4B
MAX_CUDA_VRAM=8
run "planned" --model named --lm named/acestep-5Hz-lm-4B --duration 10 --seed 3 --inference-steps 1 -o planned.wav
told 'language model 4B is started because it was asked for' '8.0 GB'
report
