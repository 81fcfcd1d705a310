#!/bin/sh
# Every promise about memory and tiers has a test whose name begins with its number: S_01 to S_29 are the requirements, A_01
# to A_09 the acceptance list. Counted are tests that run: registered cmocka tests, and shell functions that are called.
# Usage: tools/check-promises.sh [--list]
set -eu
tests=$(dirname "$0")/../tests
names=$(mktemp)
trap 'rm -f "$names"' EXIT
{
    grep -rhoE --include='*.c' 'cmocka_unit_test[a-z_]*\((S|A)_[0-9]{2}_[A-Za-z0-9_]+' "$tests" | sed 's/.*(//'
    grep -rhoE --include='*.c' '"S_02_table_1_4_|test_func = S_[0-9]{2}_[A-Za-z0-9_]+' "$tests" | sed 's/.*[ "]//'
    # a function that stands alone on a line is called
    grep -rhoE --include='*.sh' '^[sa]_[0-9]{2}_[a-z0-9_]+$' "$tests"
} | tr sa SA | sort -u >"$names"
missing=0
for id in $(seq -f 'S_%02g_' 1 29) $(seq -f 'A_%02g_' 1 9); do
    if [ "${1:-}" = --list ]; then grep "^$id" "$names" || true; fi
    if grep -q "^$id" "$names"; then continue; fi
    echo "no test begins with $id" >&2
    missing=1
done
exit $missing
