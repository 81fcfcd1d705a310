#!/bin/sh
# The program on an emulated GPU, and what it says where there is none. The emulated GPU is of compute capability 9.0,
# whose kernels are emulated fastest; tests/device runs them all. Usage: test_cuda.sh ACESTEP TINY_CHECKPOINTS BUILD-OF-TESTS
# [short: without songs, for builds with sanitizers]
. "$(dirname "$0")/cli_support.sh"
emulated=$3/acestep-cuda-emulated.so
fakes=$3/plugins
short=${4:-}
unset ACESTEP_DEVICE ACESTEP_GPU_MAPPING CUDA_VISIBLE_DEVICES
XDG_CONFIG_HOME=$place/none
ACESTEP_EMULATED_CAPABILITY=90
export XDG_CONFIG_HOME ACESTEP_EMULATED_CAPABILITY
song="--duration 10 --seed 3 --inference-steps 2"
model="--model $tiny/turbo"
tight=0.42 # GB; enough for a song, and too little for measuring the card, which takes long when it is emulated

# on PLUGIN COMMAND...: with that plug-in
on() {
    ACESTEP_CUDA_PLUGIN=$1
    export ACESTEP_CUDA_PLUGIN
    shift
    "$@"
    unset ACESTEP_CUDA_PLUGIN
}
said() { if grep -q -e "$1" out err; then ok; else bad "nothing says '$1'"; fi; }
not_said() { if grep -q -e "$1" out err; then bad "something says '$1'"; else ok; fi; }
same() { if cmp -s "$1" "$2"; then ok; else bad "$1 and $2 differ: $3"; fi; }
# alike A B LEAST: the correlation of two songs
alike() {
    for file in "$1" "$2"; do od -An -v -t d2 -w2 -j 44 "$file" >"$file.numbers"; done
    paste "$1.numbers" "$2.numbers" | awk -v least="$3" '
        { ab += $1 * $2; aa += $1 * $1; bb += $2 * $2 }
        END { r = aa * bb > 0 ? ab / sqrt(aa * bb) : 0; printf "    correlation %.7f\n", r; exit !(r >= least) }' ||
        { bad "$1 and $2 are not alike"; return; }
    ok
}

a_machine_without_a_gpu_starts_and_explains_itself() {
    ls /dev/nvidia0 >/dev/null 2>&1 && { echo "not tried: this machine has an NVIDIA GPU"; return; }
    run gpu
    said "computed on the CPU"
    run doctor
    # shellcheck disable=SC2086
    expect 8 "there is no device cuda that can be used" "x" $model --device cuda -o bad.wav
    plugin=$(dirname "$acestep")/libacestep-cuda.so # of this build, where there is nvcc
    if [ -f "$plugin" ] && ! ldconfig -p 2>/dev/null | grep -q libcuda.so.1; then
        on "$plugin" run doctor
        said "driver is not installed"
        said "libcuda.so.1" # what the loader says
        on "$plugin" expect 8 "no device cuda" "x" $model --device cuda -o bad.wav
    fi
}

# shellcheck disable=SC2086
a_plug_in_that_is_wrong_is_told_and_the_cpu_steps_in() {
    for wrong in missing nameless other-version unresolved old-driver no-cards; do
        on "$fakes/fake-$wrong.so" run gpu
        said "computed on the CPU"
        on "$fakes/fake-$wrong.so" expect 8 "no device cuda" "x" $model --device cuda -o bad.wav
    done
    on /dev/null run doctor
    said "is no file"
    on "$fakes/fake-old-driver.so" run doctor
    said "the driver is older than CUDA 13"
}

the_card_is_chosen_and_reported() {
    on "$emulated" run gpu
    said "computed on cuda:0, emulated GPU"
    said "Limits of Unlimited"
    on "$emulated" run gpu --json
    said '"computes_on": "cuda:0"'
    on "$emulated" run gpu --device cpu
    said "computed on the CPU"
    on "$emulated" run doctor
    said "arithmetic cuda:0"
    on "$emulated" expect 2 "choose auto, cpu, cuda" "x" --device tpu
    # shellcheck disable=SC2086
    on "$emulated" expect 8 "usable cards: cuda:0" "x" $model --device cuda:1 -o bad.wav
    # shellcheck disable=SC2086
    on "$emulated" run plan "x" $model --duration 10 --memory $tight
    said "on cuda:0 emulated GPU (bf16)"
}

# Where the program is installed, in bin/, the plug-in is in lib/acestep/.
the_plug_in_is_found_where_it_is_installed() {
    mkdir -p prefix/bin prefix/lib/acestep
    cp "$acestep" prefix/bin/acestep
    cp "$emulated" prefix/lib/acestep/libacestep-cuda.so
    "$place/prefix/bin/acestep" gpu --device cuda >out 2>err && ok || bad "an installed plug-in"
    said "computed on cuda:0, emulated GPU"
    rm prefix/lib/acestep/libacestep-cuda.so
    "$place/prefix/bin/acestep" gpu --device cuda >out 2>err
    said "is not installed"
}

# A card of 5 GB has the limits of the first tiers, and the plan keeps within what is free.
# shellcheck disable=SC2086
the_tier_of_the_card_limits_songs() {
    ACESTEP_EMULATED_MIB=5120
    export ACESTEP_EMULATED_MIB
    on "$emulated" run plan "x" $model --duration 500 --batch 2 --memory $tight --json
    said "5.0 GB of GPU memory (tier 2)"
    said '"duration_s":360.000,"batch":1'
    unset ACESTEP_EMULATED_MIB
}

# MAX_CUDA_VRAM is a hard cap, with the context in it: refused, or streamed with the same bytes, which are those of the
# first song of a batch.
# shellcheck disable=SC2086
a_cap_is_kept() {
    MAX_CUDA_VRAM=$tight
    export MAX_CUDA_VRAM
    on "$emulated" run plan "x" $model --duration 10 --json
    least=$(sed -n 's/.*"least_bytes":\([0-9]*\).*/\1/p' out)
    cap=$(awk -v bytes="$least" 'BEGIN { printf "%.6f", (bytes + 65536) / 1073741824 }')
    below=$(awk -v bytes="$least" 'BEGIN { printf "%.6f", (bytes - 65536) / 1073741824 }')
    MAX_CUDA_VRAM=0.1
    on "$emulated" expect 6 "context alone" "x" $model $song -o bad.wav
    MAX_CUDA_VRAM=$below
    on "$emulated" expect 6 "even in the most sparing way" "x" $model $song -o bad.wav
    MAX_CUDA_VRAM=$cap
    on "$emulated" run plan "x" $model --duration 10 --json
    said '"streams_dit":true\|"evicts":true'
    if [ -z "$short" ]; then
        on "$emulated" run "x" $model $song -o capped.wav
        same gpu-1.wav capped.wav "alone and within a cap the bytes are the same"
    fi
    unset MAX_CUDA_VRAM
}

# shellcheck disable=SC2086
songs_are_those_of_the_cpu() {
    run "x" $model $song --device cpu -o cpu.wav
    on "$emulated" run "x" $model $song --batch 2 -o gpu.wav
    not_said "computed on the CPU"
    alike gpu-1.wav cpu.wav 0.999
    run "x" $model $song --device cpu --precision f32 -o cpu32.wav
    on "$emulated" run "x" $model $song --precision f32 -o gpu32.wav
    alike gpu32.wav cpu32.wav 0.99999
}

# In float32 the devices differ by rounding only, so that the planner writes the same codes.
the_planner_writes_the_same_codes() {
    set -- "x" --model "$tiny/turbo-planner" --thinking --duration 10 --seed 3 --bpm 90 --timesignature 4 --codes-only \
        --precision f32
    run "$@" --device cpu
    mv out cpu.codes
    on "$emulated" run "$@"
    same cpu.codes out "the planner writes the same codes"
    grep -q audio_code_ out && ok || bad "codes were written"
}

# shellcheck disable=SC2086
interruption_stops_the_card() {
    on "$emulated" true
    ACESTEP_CUDA_PLUGIN=$emulated "$acestep" "stop me" $model --duration 120 --seed 1 -o stopped.wav >out 2>err &
    pid=$!
    sleep 3
    kill -INT $pid
    wait $pid
    [ $? -eq 130 ] && ok || bad "Ctrl-C gives 130"
    ls -A | grep -q -e '^stopped' && bad "an interrupted song leaves no file" || ok
}

a_machine_without_a_gpu_starts_and_explains_itself
a_plug_in_that_is_wrong_is_told_and_the_cpu_steps_in
the_card_is_chosen_and_reported
the_plug_in_is_found_where_it_is_installed
the_tier_of_the_card_limits_songs
[ -n "$short" ] || songs_are_those_of_the_cpu
[ -n "$short" ] || the_planner_writes_the_same_codes
a_cap_is_kept
interruption_stops_the_card
report
