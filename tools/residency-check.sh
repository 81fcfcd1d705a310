#!/bin/sh
# Makes songs at real size within little memory and with much, and holds them against each other: the peak that was
# planned, the peak that was measured, and the bytes of the song. Needs the files of tools/make_real_size_checkpoint.c
# (for all cases 2b+0.6B, 2b+1.7B and xl+4B in one directory), as much memory as the larger run takes, and minutes.
# Usage: tools/residency-check.sh ACESTEP CHECKPOINTS [CASE...], a case being DIT:PLANNER:GB:GB, as 2b:1.7B:3:16 or
# xl:none:4:16.
set -eu
acestep=$1
checkpoints=$2
shift 2
[ $# -gt 0 ] || set -- 2b:none:2:16 xl:none:4:16 2b:0.6B:4:16 2b:0.6B:2:16 2b:1.7B:3:16 2b:1.7B:2:16 xl:4B:8:12 xl:4B:6:12
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# number FILE NAME: of the last line that has it
number() {
    sed -n "s/.*\"$2\":\([0-9.]*\).*/\1/p" "$1" | tail -n 1
}

# make DIT PLANNER GB OUTPUT: prints what came of it
make_song() {
    dit=$checkpoints/acestep-v15-turbo
    [ "$1" = 2b ] || dit=$checkpoints/acestep-v15-$1-turbo
    lm=none
    [ "$2" = none ] || lm=$checkpoints/acestep-5Hz-lm-$2
    printf '[Verse]\nla la la\n' >"$work/words"
    "$acestep" generate "a song" --model "$checkpoints" --dit "$dit" --lm "$lm" --memory "$3" --lyrics "$work/words" --duration 10 --bpm 100 --keyscale "C major" --timesignature 4 --seed 7 --inference_steps 4 --json \
        --output "$4.wav" >"$4.json" || {
        tail -n 1 "$4.json" >&2
        return 1
    }
    planned=$(number "$4.json" planned_peak_bytes)
    measured=$(number "$4.json" measured_peak_bytes)
    echo "$planned $measured $(number "$4.json" seconds) $(sha256sum <"$4.wav" | cut -c1-16)"
}

failed=0
printf '%-14s %-6s %14s %14s %9s  %s\n' case GB planned measured seconds song
for one in "$@"; do
    IFS=: read -r dit planner little much <<END
$one
END
    first=
    for gb in "$much" "$little"; do
        result=$(make_song "$dit" "$planner" "$gb" "$work/song-$gb")
        set -- $result
        verdict=
        [ "$1" = "$2" ] || verdict=" THE PLAN WAS WRONG"
        [ "$gb" = "$much" ] || [ "$4" = "$first" ] || verdict="$verdict ANOTHER SONG"
        [ -z "$verdict" ] || failed=1
        printf '%-14s %-6s %14s %14s %9s  %s%s\n' "$dit+$planner" "$gb" "$1" "$2" "$3" "$4" "$verdict"
        first=$4
        rm -f "$work"/*
    done
done
exit $failed
