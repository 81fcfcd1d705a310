#!/bin/sh
# acestep gpu as a person meets it: exit codes, sentences, languages, files. Usage: gpu_command.sh ACESTEP
set -u
acestep=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place" || exit 1
unset ACESTEP_TIERS ACESTEP_DEVICE ACESTEP_GPU_MAPPING ACESTEP_INIT_LLM ACESTEP_LM_MODEL_PATH ACESTEP_CUDA_PLUGIN
CUDA_VISIBLE_DEVICES= # no card of this machine
export CUDA_VISIBLE_DEVICES
unset MAX_CUDA_VRAM MAX_MPS_VRAM MAX_XPU_VRAM LC_MESSAGES
XDG_CONFIG_HOME=$place/none
LC_ALL=C
export XDG_CONFIG_HOME LC_ALL
passed=0
failed=0

# expect CODE WORDS-IN-OUTPUT WORDS-IN-MESSAGES ARGUMENTS...; "-" expects nothing there, "" anything
expect() {
    code=$1 output=$2 messages=$3
    shift 3
    "$acestep" gpu "$@" >out 2>err </dev/null
    got=$?
    problem=
    [ "$got" -eq "$code" ] || problem="exit code $got instead of $code"
    for pair in "out:$output" "err:$messages"; do
        file=${pair%%:*} words=${pair#*:}
        case $words in
            "") ;;
            -) [ -s "$file" ] && problem="$problem; unexpected $file" ;;
            *) grep -q -e "$words" "$file" || problem="$problem; no '$words' in $file" ;;
        esac
    done
    if [ -z "$problem" ]; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "FAILED: gpu $*: $problem"
    sed 's/^/    /' out err | tail -n 8
}

expect 0 "computed on the CPU" ""
expect 0 "Devices" "" --lang en
expect 0 "장치" "" --lang ko
expect 0 "デバイス" "" --lang ja_JP
expect 0 "设备" "" --lang zh
expect 2 - "no language 'fr'" --lang fr
expect 0 "Tier 4 (from 8 GB to below 12 GB)" "SIMULATION: --vram=8" --vram 8
expect 2 - "cannot be '8GB'" --vram 8GB
expect 2 - "needs a value" --vram
expect 0 '"computes_on": "cpu"' - --json
expect 0 '"tier": "tier3"' - --json --vram 7.9
expect 2 - "no tier 'tier0'" --tier tier0
expect 0 "Tier chosen by hand: Tier 5" "" --vram 8 --tier tier5
expect 0 "profile measured" "" --profile measured
expect 2 - "no tier profile 'fast'" --profile fast
expect 2 - "the device cannot be 'tpu'" --device tpu
expect 8 - "there is no device cuda:77" --device cuda:77
expect 8 - "cuda:77" --gpu-mapping single:77
expect 2 - "names 'unet'" --gpu-mapping dit:0,unet:1
expect 2 - "not expected here" words
expect 0 "^  acestep gpu" "" --help
expect 0 "^| Tier 1 | up to 4 GB | 3 min | 1 |" "" --tables en
expect 0 "from_gib *8 *from the built-in table" "" --print-tiers

# A table of one's own: S-26, S-27, S-28.
a_08_a_tier_file_changes_limits_and_a_broken_one_is_rejected() {
    printf '{"profiles": {"seed": {"tiers": {\n"tier3": {"max_batch_without_lm": 3}}}}}' >mine.json
    expect 0 "max_batch_without_lm *3 *from mine.json line 2" - --tiers mine.json --print-tiers
    expect 0 "songs at a time: 1 with the language model, 3 without" "" --tiers mine.json --vram 7
    sed -i s/3}/300}/ mine.json
    expect 4 - "mine.json:2:35: .*is 300, outside 1 to 8" --tiers mine.json
    expect 3 - "missing.json" --tiers missing.json
    export ACESTEP_TIERS=mine.json
    expect 0 "songs at a time: 1 with the language model, 2 without" "rejected and the built-in table is used: mine.json:2:35:" --vram 7
    unset ACESTEP_TIERS
    mkdir -p none/acestep && mv mine.json none/acestep/tiers.json
    expect 0 "" "none/acestep/tiers.json:2:35:"
    rm -r none
}
a_08_a_tier_file_changes_limits_and_a_broken_one_is_rejected

# S-18, S-19: the variables
MAX_CUDA_VRAM=4 && export MAX_CUDA_VRAM
expect 0 "Tier 1" "SIMULATION: MAX_CUDA_VRAM=4"
MAX_CUDA_VRAM=four
expect 0 "Limits of the CPU" "MAX_CUDA_VRAM=four is ignored"
unset MAX_CUDA_VRAM

LC_ALL=ko_KR.UTF-8
expect 0 "장치" ""
if [ -w /dev/full ]; then
    "$acestep" gpu >/dev/full 2>err
    if [ $? -eq 3 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: a full disk"; fi
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
