# cli_support.sh - what the tests of the command line share; sourced with ACESTEP TINY_CHECKPOINTS as arguments. They run in
# an empty directory of their own.
set -u
acestep=$1
tiny=$2
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place" || exit 1
unset ACESTEP_MODEL ACESTEP_ISA ACESTEP_TIERS ACESTEP_GPU_MAPPING ACESTEP_CUDA_PLUGIN MAX_CUDA_VRAM MAX_MPS_VRAM MAX_XPU_VRAM
ACESTEP_DEVICE=cpu # also on a machine with a card
export ACESTEP_DEVICE
passed=0
failed=0

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    sed 's/^/    /' err 2>/dev/null | tail -n 5
}

# expect CODE "words in the message" ARGUMENTS...: exit code, one sentence on standard error, and no new file.
expect() {
    code=$1
    words=$2
    shift 2
    before=$(ls -A | grep -v -x -e out -e err)
    "$acestep" "$@" >out 2>err </dev/null
    got=$?
    after=$(ls -A | grep -v -x -e out -e err)
    if [ "$got" -ne "$code" ]; then bad "exit code $got instead of $code: $*"; return; fi
    if ! grep -q -i -e "$words" err; then bad "no '$words' in the message: $*"; return; fi
    if [ "$before" != "$after" ]; then bad "left files ($after): $*"; return; fi
    if [ "$(grep -c '^acestep: ' err)" -ne 1 ]; then bad "not one sentence: $*"; return; fi
    ok
}

run() {
    if "$acestep" "$@" >out 2>err </dev/null; then ok; else bad "should work: $*"; fi
}

# The end of a script.
report() {
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
}
