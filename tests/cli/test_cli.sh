#!/bin/sh
# What a person meets: exit codes, sentences, files. Usage: test_cli.sh ACESTEP TINY_CHECKPOINTS
. "$(dirname "$0")/cli_support.sh"
model="--model $tiny/turbo"

# ---- a song -------------------------------------------------------------------------------------------------------
printf '[Verse]\r\nla la la\r\n' >words.txt
# shellcheck disable=SC2086
{
run "upbeat city pop, female vocal" $model --lyrics words.txt --duration 12 --seed 7 -o song.flac
grep -q 'song.flac  12.00 s  seed 7' out && ok || bad "the seed and the length are printed"
[ -s song.flac ] && [ -s song.flac.json ] && ok || bad "the song and its sidecar exist"
run --from song.flac $model -o again.flac
cmp -s song.flac again.flac && cmp -s song.flac.json again.flac.json && ok || bad "--from makes the same bytes"
run --from song.flac.json $model -o third.flac --threads 1 --vae-window 13
cmp -s song.flac third.flac && ok || bad "threads and window change nothing"
run --from song.flac $model --quantization int8 -o coarse.flac
cmp -s song.flac coarse.flac && bad "int8 is another song" || ok
grep -q 'made with --quantization none: with int8' err && grep -q '"quantization": "int8"' coarse.flac.json && ok || bad "int8 is told"
run --from song.flac $model --bpm 90 -o other.flac
cmp -s song.flac other.flac && bad "another tempo is another song" || ok
rm -f song.flac.json
run --from song.flac $model -o fourth.flac
cmp -s song.flac fourth.flac && ok || bad "the tags alone suffice"

run "batch" $model --duration 10 --seed 3 --batch 2 -o take.wav
[ -s take-1.wav ] && [ -s take-2.wav ] && ok || bad "a batch writes numbered files"
run "batch" $model --duration 10 --seed 4 -o alone.wav
# the tags differ only in the name of nothing: same seed, same request, same bytes
cmp -s take-2.wav alone.wav && ok || bad "item 2 of a batch is the song alone"

for format in wav24 wav32 flac16 mp3 opus; do
    extension=$format
    case $format in wav*) extension=wav ;; flac*) extension=flac ;; esac
    run "formats" $model --duration 10 --seed 1 --format $format -o "format-$format.$extension"
    run --from "format-$format.$extension" $model --force -o "format-$format.$extension"
done

run "default name" $model --duration 10
[ -s song-2.flac ] && grep -q 'seed [0-9]' out && ok || bad "a default name never collides and the random seed is printed"

"$acestep" "events" $model --duration 10 --seed 5 --json -o events.flac >out 2>err
grep -q '"event":"progress","stage":"diffusion"' out && grep -q '"event":"song","path":"events.flac","seed":5' out &&
    grep -q '"event":"done"' out && ok || bad "JSON events"
[ -s err ] && bad "--json keeps standard error quiet" || ok
printf '[Chorus]\nfrom a pipe\n' | "$acestep" "stdin" $model --lyrics - --duration 10 --seed 5 -o pipe.flac >out 2>err && ok || bad "lyrics from standard input"

# ---- what bad input gets --------------------------------------------------------------------------------------------
for duration in 0 9.9 601 nan inf -5 1e9 "" ten; do
    expect 2 "duration cannot be '$duration'" "x" $model --duration "$duration" -o bad.flac
done
expect 2 "no option '--temp'" "x" $model --temp 1 -o bad.flac
expect 2 "needs a value" "x" $model --duration
expect 2 "a second caption" one two $model -o bad.flac
expect 2 "bpm cannot be '1000'" "x" $model --bpm 1000 -o bad.flac
expect 2 "solver cannot be" "x" $model --solver rk4 -o bad.flac
expect 2 "seed cannot be" "x" $model --seed -3 -o bad.flac
expect 2 "unknown file extension\|extension" "x" $model -o bad.xyz
expect 2 "flac" "x" $model --format mp3 -o bad.flac
expect 2 "precision cannot be" "x" $model --precision fp8 -o bad.flac
expect 2 "choose auto, cpu, cuda" "x" $model --device tpu -o bad.flac
expect 8 "there is no device cuda" "x" $model --device cuda:99 -o bad.flac
expect 2 "audio code" "x" $model --audio-codes-text "1,2,64000" -o bad.flac
printf 'caf\351' >latin1.txt
expect 2 "not UTF-8" "x" $model --lyrics latin1.txt -o bad.flac
printf 'a\0b' >nul.txt
expect 2 "NUL" "x" $model --lyrics nul.txt -o bad.flac
expect 3 "cannot read 'missing.txt'" "x" $model --lyrics missing.txt -o bad.flac
expect 3 "exists already" "x" $model --duration 10 -o song.flac
mkdir -p directory.flac
expect 3 "is a directory" "x" $model --duration 10 --force -o directory.flac
expect 3 "nowhere" "x" $model --duration 10 -o nowhere/bad.flac
expect 3 "/nonexistent" "x" --model /nonexistent -o bad.flac
expect 2 "no checkpoint was named" "x" -o bad.flac
mkdir -p empty
expect 5 "empty" "x" --model empty -o bad.flac
expect 2 "timesteps" "x" $model --timesteps "1,x" -o bad.flac
expect 2 "timestep 2 (0.9)" "x" $model --timesteps "0.5,0.9" -o bad.flac
echo '{"bpm": "fast"}' >request.json
expect 2 "bpm" --from request.json $model -o bad.flac
echo '{"bpm":' >request.json
expect 4 "not valid JSON" --from request.json $model -o bad.flac
expect 4 "words.txt" --from words.txt $model -o bad.flac

# what the checkpoint cannot do is said, and adapted as the official program does
run "guided turbo" $model --duration 10 --seed 1 --guidance-scale 7 -o guided.flac
grep -q 'warning: .*guidance' err && ok || bad "guidance on turbo warns"

# ---- unwritable places ------------------------------------------------------------------------------------------------
(
    ulimit -f 200
    "$acestep" "too big" $model --duration 10 -o big.wav >out 2>err
    [ $? -eq 3 ]
) && [ ! -e big.wav ] && [ ! -e big.wav.json ] && ok || bad "a full disk is an error without a file"
if [ "$(id -u)" -ne 0 ]; then
    mkdir locked && chmod 555 locked
    expect 3 "locked" "x" $model --duration 10 -o locked/bad.flac
else
    echo "skipped: unwritable directory (running as root)"
fi
if [ -w /dev/full ]; then
    "$acestep" "x" $model --duration 10 -q -o full.flac >/dev/full 2>err
    [ $? -eq 3 ] && ok || bad "a full standard output is an error"
fi

# ---- damaged checkpoints ------------------------------------------------------------------------------------------------
damage() { # damage NAME CODE WORDS: runs on the copy in ./broken
    name=$1
    shift
    expect "$1" "$2" "damaged $name" --model broken --duration 10 -o bad.flac
    rm -rf broken
}
dit=broken/acestep-v15-turbo
copy() { cp -r "$tiny/turbo" broken; }
copy && truncate -s 1000 $dit/model.safetensors && damage "truncated weights" 4 "model.safetensors"
copy && truncate -s -1 $dit/model.safetensors && damage "weights one byte short" 4 "model.safetensors"
copy && : >$dit/model.safetensors && damage "empty weights" 4 "model.safetensors"
copy && printf '\377\377\377\377\377\377\377\177' | dd of=$dit/model.safetensors conv=notrunc bs=1 2>/dev/null && damage "hostile header length" 4 "model.safetensors"
copy && echo '{' >$dit/config.json && damage "config" 4 "config.json"
copy && sed -i 's/"hidden_size": *[0-9]*/"hidden_size": 72/' $dit/config.json && damage "contradicting config" 5 "72\|hidden"
copy && sed -i 's/"num_attention_heads": *[0-9]*/"num_attention_heads": 3/' $dit/config.json && damage "heads" 5 "head"
copy && rm broken/vae/*.safetensors && damage "missing VAE" 5 "VAE"
copy && rm -r broken/Qwen* && damage "missing text encoder" 5 "text encoder"
copy && rm $dit/silence_latent.pt && damage "missing silence" 5 "silence"
copy && truncate -s 5000 $dit/silence_latent.pt && damage "truncated silence" 4 "silence_latent.pt"
copy && sed -i 's/decoder.layers.1.mlp.down_proj.weight/decoder.layers.1.mlp.down_prok.weight/' $dit/model.safetensors && damage "missing tensor" 5 "decoder.layers.1.mlp.down_proj.weight"
copy && truncate -s 3000 broken/Qwen*/tokenizer.json && damage "truncated tokenizer" 4 "tokenizer.json"
# the last 64 bytes of the weights become 0xff: NaN
text=broken/Qwen3-Embedding-0.6B/model.safetensors
copy && head -c 64 /dev/zero | tr '\000' '\377' | dd of=$text conv=notrunc bs=1 seek=$(($(stat -c %s "$tiny/turbo/${text#broken/}") - 64)) 2>/dev/null && damage "NaN weights" 4 "norm.weight"

# ---- a file that does not say what it is ------------------------------------------------------------------------------
copy && sed -i 's/"is_turbo": *true,*//; s/"model_version": *"turbo",*//; s/_turbo\./_some./' $dit/config.json && mv $dit broken/some-model &&
    sed -i 's/turbo/other/g' broken/some-model/config.json
expect 5 "pass --recipe" "x" --model broken --duration 10 -o bad.flac
run "told" --model broken --duration 10 --seed 7 --recipe turbo -o told.flac
expect 2 "recipe cannot be" "x" --model broken --recipe fast -o bad.flac
expect 2 "leave --recipe away" "x" $model --recipe base -o bad.flac
rm -rf broken

# ---- stopping -------------------------------------------------------------------------------------------------------------
"$acestep" "stop me" --model "$tiny/base" --duration 600 --seed 1 -o stopped.flac >out 2>err &
pid=$!
sleep 1
kill -INT $pid
start=$(date +%s%N)
wait $pid
code=$?
took=$((($(date +%s%N) - start) / 1000000))
[ $code -eq 130 ] && ok || bad "Ctrl-C gives exit code 130, not $code"
[ $took -lt 1000 ] && ok || bad "Ctrl-C took $took ms"
grep -q 'seed 1' err && ok || bad "the seed is printed even then"
[ ! -e stopped.flac ] && [ ! -e stopped.flac.json ] && ok || bad "Ctrl-C leaves no file"
"$acestep" "kill me" $model --duration 600 --seed 1 -o killed.wav >out 2>err &
pid=$!
sleep 1
kill -KILL $pid
wait $pid 2>/dev/null
ls -A | grep -q -e '^killed' -e '^\.acestep' && bad "a killed process leaves no half file" || ok

# ---- help -------------------------------------------------------------------------------------------------------------------
run --help
run generate --help
grep -q -e '--guidance-scale' out && ok || bad "help lists the fields"
run bench --help
run doctor --help
run version
run doctor $model
grep -q ' 0 failed' out && ok || bad "doctor finds nothing wrong"
run doctor --json $model
}
"$acestep" >out 2>err
[ $? -eq 2 ] && ok || bad "no arguments is a usage error"
[ -z "$(ls -A | grep '^\.acestep')" ] && ok || bad "temporary files are left: $(ls -A)"

report
