#!/bin/sh
# The planner on the command line: plans, words, and what may go wrong. Usage: test_planner.sh ACESTEP TINY_CHECKPOINTS
. "$(dirname "$0")/cli_support.sh"

model="--model $tiny/turbo-planner"

# one field of a request JSON, the first of that name
field() { sed -n -e 's/,$//' -e 's/"$//' -e "s/^ *\"$2\": \"\{0,1\}\(.*\)$/\1/p" "$1" | head -n 1; }
# how many audio codes a request JSON has
codes() { field "$1" audio_codes | grep -o '<|audio_code_[0-9]*|>' | wc -l; }

# shellcheck disable=SC2086
{
# ---- a planned song -------------------------------------------------------------------------------------------------
printf '[Verse]\nla la la\n' >words.txt
run "a calm song" $model --lyrics words.txt --bpm 96 --duration 10 --seed 3 -o song.flac
[ "$(codes song.flac.json)" -eq 50 ] && ok || bad "ten seconds are fifty codes, not $(codes song.flac.json)"
[ "$(field song.flac.json bpm)" = 96 ] && ok || bad "the given tempo stays"
[ -n "$(field song.flac.json keyscale)" ] && ok || bad "the planner chooses a key"
[ "$(field song.flac.json lyrics)" = '[Verse]\nla la la\n' ] && ok || bad "the lyrics stay"
grep -q '"asked"' song.flac.json && grep -q '"a calm song"' song.flac.json && ok || bad "what was asked is kept"
run --from song.flac $model -o again.flac
cmp -s song.flac again.flac && cmp -s song.flac.json again.flac.json && ok || bad "--from makes the same bytes"
run --from song.flac $model --lm none -o third.flac
cmp -s song.flac third.flac && ok || bad "and needs no planner for that"
run --from song.flac --model "$tiny/turbo" -o fourth.flac
cmp -s song.flac fourth.flac && ok || bad "nor a checkpoint that has one"

run "no plan" $model --lm none --duration 10 --seed 3 -o plain.flac
grep -q audio_code plain.flac.json && bad "without a planner there are no codes" || ok
run "no codes" $model --no-thinking --duration 10 --seed 3 -o metas.flac
grep -q audio_code metas.flac.json && bad "--no-thinking writes no codes" || ok
[ -n "$(field metas.flac.json keyscale)" ] && ok || bad "but metadata"
"$acestep" "length" $model --seed 5 --json -o length.flac >out 2>err
grep '"event":"progress","stage":"plan"' out | grep -q '"unit":"codes".*"rate_per_s"' && ok ||
    bad "progress counts codes, and how many a second"

# ---- the plan by hand -----------------------------------------------------------------------------------------------
run "by hand" $model --duration 12 --seed 8 --stop-after plan -o plan.json
[ "$(codes plan.json)" -eq 60 ] && ok || bad "the plan has its codes"
[ ! -e song-2.flac ] && ok || bad "--stop-after plan makes no song"
run --request plan.json $model -o planned.wav
run "by hand" $model --duration 12 --seed 8 -o whole.wav
[ "$(field planned.wav.json decoded_peak)" = "$(field whole.wav.json decoded_peak)" ] && ok ||
    bad "a plan in two steps is the same song"
sed 's/"bpm": [0-9]*/"bpm": 111/' plan.json >edited.json
run --request edited.json $model -o edited.wav
[ "$(field edited.wav.json bpm)" = 111 ] && ok || bad "an edited plan is followed"
[ "$(codes edited.wav.json)" -eq 60 ] && ok || bad "with its codes"
run "to standard output" $model --duration 10 --seed 8 --stop-after plan
cp out piped.json
run --request piped.json $model -o piped.wav
"$acestep" --request - $model -o piped-in.wav <piped.json >out 2>err && cmp -s piped.wav piped-in.wav && ok ||
    bad "--request - reads standard input"
run "a batch" $model --duration 10 --seed 8 --batch 2 --stop-after plan -o take.json
[ -s take-1.json ] && [ -s take-2.json ] && ! cmp -s take-1.json take-2.json && ok || bad "a plan for each song"
run "a batch" $model --duration 10 --seed 8 --batch 2 --codes-only
[ "$(wc -l <out)" -eq 2 ] && [ "$(grep -o 'audio_code_' out | wc -l)" -eq 100 ] && ok || bad "--codes-only prints a line for each song"
head -n 1 out >codes.txt
run "a batch" $model --duration 10 --seed 8 --audio-codes codes.txt -o given.wav
[ "$(codes given.wav.json)" -eq 50 ] && ok || bad "given codes are kept"
expect 3 'exists' "a batch" $model --duration 10 --stop-after plan -o plan.json
expect 2 'stop-after' "x" $model --stop-after lunch

# ---- words ----------------------------------------------------------------------------------------------------------
run write "a soft Bengali love song" $model --seed 3 --vocal-language bn
[ "$(field out vocal_language)" = bn ] && ok || bad "the language that was given stays"
[ -n "$(field out bpm)" ] && [ -n "$(field out caption)" ] && ok || bad "write gives caption and metadata"
cp out idea.json
run write "a soft Bengali love song" $model --seed 3 --vocal-language bn
cmp -s out idea.json && ok || bad "the same seed writes the same"
run --request idea.json $model --duration 10 -o idea.flac
run write "storm" $model --instrumental --seed 4 -o storm.json
[ "$(field storm.json instrumental)" = true ] && ok || bad "an instrumental stays one"
expect 3 'exists' write "storm" $model -o storm.json
run write "storm" $model -o storm.json --force
run format "Latin pop" $model --lyrics words.txt --bpm 90 --seed 3 --key "C major" --vocal-language es
[ "$(field out bpm)" = 90 ] && [ "$(field out keyscale)" = "C major" ] && [ "$(field out vocal_language)" = es ] && ok ||
    bad "format keeps what was given"
run understand song.flac $model --seed 2
[ "$(codes out)" -eq 50 ] && [ -n "$(field out bpm)" ] && ok || bad "understand gives codes and metadata"
cp out understood.json
run --request understood.json $model -o like-it.wav
run understand --audio-codes codes.txt $model --seed 2
[ "$(codes out)" -eq 50 ] && ok || bad "codes can be understood"

# ---- what goes wrong ------------------------------------------------------------------------------------------------
expect 5 'planner\|language model' write "x" --model "$tiny/turbo"
expect 5 'planner\|language model' "x" --model "$tiny/turbo" --thinking
expect 5 'lm none' write "x" $model --lm none
expect 2 'nothing to understand' understand $model
expect 3 'nowhere.mp3' understand nowhere.mp3 $model
expect 4 'words.txt' understand words.txt $model
head -c 300 song.flac >cut.flac
expect 4 'cut.flac' understand cut.flac $model
: >empty.wav
expect 4 'empty.wav' understand empty.wav $model
head -c 100000 /dev/zero | tr '\0' 'x' | sed 's/xxxxx/lala /g' >long.txt
expect 2 'tokens.*shorten' "x" $model --lyrics long.txt --duration 10
printf 'la\001la\n' >controls.txt
"$acestep" "x" $model --lyrics controls.txt --duration 10 --codes-only >out 2>err &&
    grep -q 'warning: 1 control character in the lyrics' err && ok || bad "control characters are named and left out"
printf '{"caption": "lone \\ud800"}' >lone.json
expect 4 'lone.json.*Unicode' --request lone.json $model
printf '{"caption": 7}' >seven.json
expect 2 'caption' --request seven.json $model
printf '{"bpm": "fast"}' >fast.json
expect 2 'bpm' --request fast.json $model
printf '{"thinking": "maybe"}' >maybe.json
expect 2 'thinking' --request maybe.json $model
printf '[1, 2]' >list.json
expect 4 'list.json' --request list.json $model
expect 2 'lm_temperature' "x" $model --lm-temperature -1
expect 2 'lm_cfg_scale' "x" $model --lm-cfg-scale 0.5
expect 3 'nowhere' write "x" $model --lm nowhere
expect 3 'nowhere' write "x" $model --genres nowhere

# Ctrl-C while codes are written; lm_temperature is no reason to be slow
"$acestep" "stop me" $model --duration 600 --batch 8 --seed 1 -o stopped.flac >out 2>err &
pid=$!
sleep 0.4
start=$(date +%s%N)
kill -INT $pid
wait $pid
code=$?
took=$((($(date +%s%N) - start) / 1000000))
[ $code -eq 130 ] && ok || bad "Ctrl-C gives exit code 130, not $code"
[ $took -lt 1000 ] && ok || bad "Ctrl-C took $took ms"
[ ! -e stopped-1.flac ] && ok || bad "Ctrl-C leaves no file"

run write --help
run format --help
run understand --help
run doctor $model
grep -q 'planner' out && ok || bad "doctor names the planner"
}
report
