#!/bin/sh
# Puts the tier tables of data/tiers.json into the guides, between their markers: that of the seed profile with its
# advice, and that of the measured profile. Usage: tools/gpu-docs.sh ACESTEP [--check]
# With --check nothing is written: the guides must be up to date.
set -eu
acestep=$1
check=${2:-}
docs=$(dirname "$0")/../docs
new=$(mktemp)
tables=$(mktemp)
measured=$(mktemp)
trap 'rm -f "$new" "$tables" "$measured"' EXIT
unset ACESTEP_TIERS ACESTEP_TIER_PROFILE ACESTEP_DEVICE ACESTEP_GPU_MAPPING ACESTEP_INIT_LLM ACESTEP_LM_MODEL_PATH ACESTEP_CUDA_PLUGIN MAX_CUDA_VRAM
XDG_CONFIG_HOME=/nonexistent
export XDG_CONFIG_HOME
stale=0
for guide in gpu.md:en gpu.ko.md:ko gpu.ja.md:ja; do
    file=$docs/${guide%%:*}
    "$acestep" gpu --profile seed --tables "${guide##*:}" >"$tables"
    "$acestep" gpu --profile measured --tables "${guide##*:}" | sed '/^$/,$d' >"$measured"
    awk -v tables="$tables" -v measured="$measured" '
        /^<!-- (tables|measured): end -->$/ { inside = 0; ends++ }
        !inside { print }
        /^<!-- tables: begin -->$/ { inside = 1; begins++; while ((getline line < tables) > 0) print line }
        /^<!-- measured: begin -->$/ { inside = 1; begins++; while ((getline line < measured) > 0) print line }
        END { exit !(begins == 2 && ends == 2) }' "$file" >"$new" || {
        echo "$file: the markers of the tables are missing" >&2
        exit 1
    }
    if cmp -s "$new" "$file"; then continue; fi
    if [ "$check" = --check ]; then
        echo "$file: its tables differ from data/tiers.json; run tools/gpu-docs.sh $acestep" >&2
        diff "$file" "$new" >&2 || true
        stale=1
    else
        cat "$new" >"$file"
        echo "$file: written"
    fi
done
exit $stale
