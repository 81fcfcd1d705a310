#!/bin/bash
# acestep plan as a person meets it.
. "$(dirname "$0")/cli_support.sh"
export XDG_CONFIG_HOME=$place

# The number behind "peak_bytes" of the whole
peak() { sed 's/.*"batch":[0-9]*,"peak_bytes":\([0-9]*\).*/\1/' out; }

run plan --help
grep -q -e '--vram' out && ok || bad "help names --vram"
run plan --duration 60
grep -q '^peak: ' out && grep -q 'estimate' out && grep -q '^diffusion' out && ok || bad "a plan of the real dimensions"
run plan --variant xl+0.6B --vram 8 --thinking --duration 300
grep -q '^planner: ' out && grep -q '240.0 s' out && grep -q 'reduced to 240 s' err && ok || bad "a tier's limits"
run plan --duration 600 --batch 8 --memory 3 --json
[ "$(peak)" -le 3221225472 ] && grep -q '"streams_dit":true' out && ok || bad "within 3 GB"
expect 6 "need .* GiB of memory .* allowed" plan --memory 0.5
"$acestep" plan --memory 0.5 --json >out 2>err
[ $? -eq 6 ] && grep -q '"fits":false' out && grep -q '"least_bytes":[1-9]' out && ok || bad "a refusal in JSON"
expect 2 "no synthetic checkpoint" plan --variant 3b
expect 2 "there is no option" plan --wrong

# quantised weights take less, and a plan that does not fit says when they would
run plan --duration 60 --quantization int8
grep -q '^diffusion .* int8 ' out && grep -q '^load .* mixed ' out && ok || bad "the form of each stage"
previous=99999999999
for form in none int8 int4; do
    run plan --variant xl --duration 60 --quantization $form --json
    grep -q "\"quantization\":\"$form\"" out && [ "$(peak)" -lt "$previous" ] && ok || bad "$form takes less"
    previous=$(peak)
done
run plan --variant 2b+0.6B --thinking --duration 60 --lm-quantization int4 --json
grep -q '"lm_quantization":"int4"' out && grep -q '"plan":{"stored":"int4"' out && ok || bad "the planner's form"
expect 2 "--quantization cannot be 'fp8'" plan --quantization fp8
run plan --quantization keep
grep -q 'warning: --quantization keep keeps nothing' err && ok || bad "nothing to keep is told"

# where int8 is much faster it is advised, but never chosen, and nothing is said to who has chosen
if ACESTEP_ISA=avx2vnni "$acestep" plan --duration 10 --json >out 2>err; then
    grep -q '"quantization":"none"' out && grep -q 'int8 makes the diffusion' err && ok || bad "int8 is advised"
    ACESTEP_ISA=avx2vnni "$acestep" plan --duration 10 --quantization none --json >out 2>err
    ! grep -q 'int8 makes' err && ok || bad "no advice to who has chosen"
else
    grep -q 'avx2vnni' err && echo "skipped: advice on a CPU with AVX-VNNI, which this one lacks" || bad "a plan with AVX-VNNI"
fi

# what the forms cost is measured
run bench --stage quantization --model "$tiny/turbo" --duration 1 --json
[ "$(grep -o '"least_cosine":0.99' out | wc -l)" -eq 3 ] && grep -q '"quantization":"int4"' out && ok || bad "a measurement of the forms"
expect 2 "--duration cannot be '0.5'" bench --stage quantization --model "$tiny/turbo" --duration 0.5
expect 2 "--stage cannot be" bench --stage dit

# what is planned is what generate then takes
run generate "a song" --model "$tiny/turbo" --duration 10 --seed 1 -o a.wav
run plan "a song" --model "$tiny/turbo" --duration 10 --seed 1 --json
planned=$(peak)
run generate "a song" --model "$tiny/turbo" --duration 10 --seed 1 --json -o b.wav
grep -q "\"planned_peak_bytes\":$planned,\"measured_peak_bytes\":$planned," out && ok || bad "planned $planned is not what was measured"

# a pretended card is no larger than it says, and the song is the same (S-21)
MAX_CUDA_VRAM=0.02 "$acestep" "a song" --model "$tiny/turbo" --duration 10 --seed 1 --json -o c.wav >out 2>err
[ $? -eq 0 ] && cmp -s a.wav c.wav && ok || bad "the same song on a card of 0.02 GB"
measured=$(sed -n 's/.*"measured_peak_bytes":\([0-9]*\).*/\1/p' out)
[ "$measured" -le 21474836 ] && [ "$measured" -lt "$planned" ] && ok || bad "$measured bytes on a card of 0.02 GB"
report
