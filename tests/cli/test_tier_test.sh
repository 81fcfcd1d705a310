#!/bin/sh
# acestep tier-test as a person meets it. Usage: test_tier_test.sh ACESTEP TINY_CHECKPOINTS
. "$(dirname "$0")/cli_support.sh"
unset ACESTEP_TIER_PROFILE
XDG_CONFIG_HOME=$place/none
export XDG_CONFIG_HOME

# value OF-RECORD KEY [FILE]: of the nth record of a JSON result, as it is written
value() {
    sed -n "s/^.*{\"tier_gb\"/{\"tier_gb\"/; ${1}s/.*\"$2\":\(\"[^\"]*\"\|[^,}]*\).*/\1/p" "${3:-out}" | tr -d '"'
}
# is "WORDS" RECORD KEY VALUE
is() {
    got=$(value "$2" "$3")
    [ "$got" = "$4" ] && ok || bad "$1: record $2 has $3 $got, not $4"
}

# ---- S-29: a tier is verified by measurement, and the row to submit is printed ---------------------------------------
s_29_a_tier_is_verified_by_measurement() {
    run tier-test --model "$tiny/turbo-planner" --tiers 8 --duration 10 --with-lm
    grep -q '^ *8 tier4 .* ok' out && ok || bad "tier 4 was run"
    grep -q '^| 8 GB | tier4 | .* | 1 x 10 s | .* | ok |$' out && ok || bad "a row to submit"
    run tier-test --model "$tiny/turbo-planner" --tiers 4,8 --duration 10 --with-lm --json
    is "a tier without language model" 1 use_lm false
    is "what the tier starts" 2 use_lm true
    for record in 1 2; do
        is "it ran" $record gen_success true
        is "it ran" $record outcome done
        is "planned is measured" $record measured_peak_bytes "$(value $record planned_peak_bytes)"
        [ "$(value $record measured_peak_bytes)" -le "$(value $record limit_bytes)" ] && ok || bad "the limit is kept"
    done
    is "seconds of the language model" 1 lm_time 0.000
    [ "$(value 2 lm_time)" != 0.000 ] && ok || bad "the language model's seconds"
}
s_29_a_tier_is_verified_by_measurement

# every field of the official records (L-49)
for key in tier_gb tier test_variant use_lm lm_model lm_backend offload offload_dit quantization duration batch_size \
    init_success gen_success wall_time error peak_vram_gb lm_time dit_time vae_time; do
    [ -n "$(value 1 $key)" ] && ok || bad "no field $key"
done

# ---- plans of real dimensions ----------------------------------------------------------------------------------------
run tier-test --plan-only
[ "$(grep -c '^ *[0-9]* \(tier[1-6]\|unlimited\) *default' out)" -eq 7 ] && ok || bad "seven sizes"
[ "$(grep -c '^| [0-9]* GB | ' out)" -eq 7 ] && ok || bad "seven rows to submit"
run tier-test --plan-only --tiers 2,8 --boundary --json
is "the tier's default" 1 test_variant default
is "weights as they are" 2 test_variant no-quant
is "everything loaded" 3 test_variant no-offload
is "too much for 2 GB" 3 outcome refused
is "enough with 8" 6 outcome planned
grep -q '"no_quant_from_gb":2,"no_offload_from_gb":8' out && ok || bad "the boundaries"
run tier-test --plan-only --tiers 8 --batch-boundary --duration 240
grep -q '8 GB without language model *largest [48], limit 4' out && ok || bad "the batch boundary"
run tier-test --plan-only --tiers 4 --duration 600 --json
is "the tier's longest song" 1 duration 180.000
grep -q 'warning: 4 GB: .* reduced to 180 s' err && ok || bad "what was reduced is told"
run tier-test --plan-only --tiers 4 --duration 600 --json --tier-profile measured
is "the measured profile's longest song" 1 duration 600.000
run tier-test --plan-only --tiers 7.9,8 --json
is "sizes are taken literally" 1 tier tier3
is "sizes are taken literally" 2 tier tier4
run tier-test --plan-only --tiers 0.5 --json
is "no plan" 1 outcome refused
is "no plan" 1 gen_success null
grep -q 'need.*GiB' out && ok || bad "what would be needed"
# more than this machine can have is planned only
run tier-test --model "$tiny/turbo" --tiers 1024 --duration 10
grep -q '1024 unlimited .* fits (planned, not run: this machine has' out && ok || bad "what is not run is told"
MAX_CUDA_VRAM=4 "$acestep" tier-test --plan-only --tiers 8 >out 2>err
grep -q '8 tier4' out && grep -q 'MAX_CUDA_VRAM is ignored' err && ok || bad "MAX_CUDA_VRAM does not interfere"

# ---- files -------------------------------------------------------------------------------------------------------------
run tier-test --plan-only --tiers 8 -o records.json
grep -q '"complete":true' records.json && ok || bad "the records are in the file"
cp records.json before.json
expect 3 "exists already" tier-test --plan-only --tiers 4 -o records.json
cmp -s records.json before.json && ok || bad "the file is as it was"
run tier-test --plan-only --tiers 4 -o records.json --force
cmp -s records.json before.json && bad "--force overwrites" || ok
expect 3 "nowhere" tier-test --plan-only --tiers 4 -o nowhere/records.json
expect 3 "directory" tier-test --plan-only --tiers 4 -o .
expect 2 "plan-only" tier-test --write-profile profile.json
run tier-test --plan-only --write-profile profile.json
expect 3 "exists already" tier-test --plan-only --write-profile profile.json
run gpu --tiers profile.json --profile measured --vram 4
grep -q '10 min' out && ok || bad "the written profile can be used"

# ---- what bad input gets -------------------------------------------------------------------------------------------------
expect 2 "tiers cannot be 'lots'" tier-test --tiers lots
expect 2 "tiers cannot be '0'" tier-test --tiers 0
expect 2 "tiers cannot be '8,,4'" tier-test --tiers 8,,4
expect 2 "tiers cannot be '1e1'" tier-test --tiers 1e1
expect 2 "comma" tier-test --tiers 8,
expect 2 "more than 16" tier-test --tiers 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
expect 2 "duration cannot be '5'" tier-test --duration 5
expect 2 "synthetic cannot be '3b'" tier-test --synthetic 3b
expect 2 "exclude each other" tier-test --synthetic 2b --model "$tiny/turbo"
expect 2 "no place here" tier-test --memory 4
expect 2 "no tier profile 'best'" tier-test --plan-only --tier-profile best
"$acestep" tier-test --model nowhere --tiers 4 >out 2>err
[ $? -eq 3 ] && grep -q 'failed: .*nowhere' out && ok || bad "a missing checkpoint"
run tier-test --help
grep -q 'acestep tier-test --tiers 4,6,8' out && ok || bad "help teaches by example"

# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------------
"$acestep" tier-test --model "$tiny/base" --tiers 16,24 --duration 480 -o stopped.json >out 2>err &
pid=$!
for _ in $(seq 200); do grep -q diffusion err && break; sleep 0.1; done # the measurement of the speed comes first
start=$(date +%s%N)
kill -INT $pid
wait $pid
code=$?
took=$((($(date +%s%N) - start) / 1000000))
[ $code -eq 130 ] && ok || bad "Ctrl-C gives exit code 130, not $code"
[ $took -lt 1000 ] && ok || bad "Ctrl-C took $took ms"
grep -q '"complete":false' stopped.json && ok || bad "what was done is kept"
report
