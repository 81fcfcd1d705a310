#!/bin/sh
# Runs a fuzzer over its corpus and then on new inputs. Usage: tools/fuzz.sh FUZZER SECONDS
set -eu
fuzzer=$(realpath "$1")
seconds=$2
name=$(basename "$fuzzer")
corpus=$(realpath "$(dirname "$0")/../fuzz/corpus/${name#fuzz_}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$fuzzer" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 "$work" "$corpus" \
    2>"$work/log" || {
    tail -n 40 "$work/log"
    echo "$name: FAILED"
    exit 1
}
echo "$name: corpus, then $seconds s: $(grep number_of_executed_units "$work/log" || true)"
