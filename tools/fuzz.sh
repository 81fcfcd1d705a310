#!/bin/sh
# Runs every fuzzer over its corpus and then on new inputs. Usage: tools/fuzz.sh DIRECTORY SECONDS
set -eu
directory=$(realpath "$1")
seconds=$2
corpus=$(realpath "$(dirname "$0")/../fuzz/corpus")
for fuzzer in "$directory"/fuzz_*; do
    if [ ! -x "$fuzzer" ] || [ ! -f "$fuzzer" ]; then continue; fi
    name=$(basename "$fuzzer")
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "$name: corpus, then $seconds s"
    (cd "$work" && "$fuzzer" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=0 "$work" "$corpus/${name#fuzz_}" 2>"$work/log") || {
        tail -n 40 "$work/log"
        echo "$name: FAILED"
        exit 1
    }
    grep -E 'number_of_executed_units' "$work/log" || true
    rm -rf "$work"
done
