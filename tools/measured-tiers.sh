#!/bin/sh
# Puts what the planner proves today into the profile `measured` of data/tiers.json. Usage: tools/measured-tiers.sh ACESTEP
# [--check]. With --check nothing is written: the table must be up to date.
set -eu
acestep=$1
check=${2:-}
table=$(dirname "$0")/../data/tiers.json
new=$(mktemp)
profile=$(mktemp)
trap 'rm -f "$new" "$profile"' EXIT
unset ACESTEP_TIERS ACESTEP_TIER_PROFILE MAX_CUDA_VRAM MAX_MPS_VRAM MAX_XPU_VRAM
XDG_CONFIG_HOME=/nonexistent
export XDG_CONFIG_HOME
# the number of threads decides a little of the working memory
"$acestep" tier-test --plan-only --threads 2 --force --write-profile "$profile" >/dev/null
# both files write the tiers of a profile at the same depth, between `      "tiers": {` and `      }`
awk -v profile="$profile" '
    /^    "measured": \{$/ { mine = 1 }
    mine && /^      "tiers": \{/ {
        while ((getline line < profile) > 0) {
            if (line ~ /^      "tiers": \{$/) copying = 1
            if (copying) print line
            if (line ~ /^      \}$/) copying = 0
        }
        mine = 0; replaced++
        if ($0 !~ /\}$/) skipping = 1
        next
    }
    skipping { if ($0 ~ /^      \}$/) skipping = 0; next }
    { print }
    END { exit replaced != 1 }' "$table" >"$new" || {
    echo "$table: the profile measured is missing" >&2
    exit 1
}
if cmp -s "$new" "$table"; then exit 0; fi
if [ "$check" = --check ]; then
    echo "$table: its profile measured is not what plans prove; run tools/measured-tiers.sh $acestep, then" >&2
    echo "build, and tools/gpu-docs.sh $acestep" >&2
    diff "$table" "$new" >&2 || true
    exit 1
fi
cat "$new" >"$table"
echo "$table: written"
