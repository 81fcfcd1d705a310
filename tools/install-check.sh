#!/bin/sh
# Installs into a temporary place and builds a program against the installed library. Usage: tools/install-check.sh BUILD
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cmake --install "$1" --prefix "$place" >/dev/null
for file in bin/acestep include/acestep.h share/man/man1/acestep.1 share/bash-completion/completions/acestep; do
    test -f "$place/$file" || { echo "not installed: $file"; exit 1; }
done
if [ -f "$1/libacestep-cuda.so" ]; then # of a build with nvcc: installed where the program finds it
    plugin=$(find "$place" -path '*/acestep/libacestep-cuda.so')
    [ -n "$plugin" ] || { echo "not installed: libacestep-cuda.so"; exit 1; }
    ACESTEP_CUDA_PLUGIN=/dev/null "$place/bin/acestep" gpu | grep -q "is no file" || { echo "a wrong plug-in is not told"; exit 1; }
fi
cat >"$place/program.c" <<'C'
#include <acestep.h>
#include <stdio.h>
int main(void)
{
    ace_error error = {0};
    ace_request *request = ace_request_new(&error);
    if (!request || !ace_request_set(request, "duration", "30", &error)) return 1;
    if (ace_request_set(request, "duration", "601", &error)) return 1;
    printf("libacestep %s: %s\n", ace_version(), error.message);
    ace_request_free(request);
    return 0;
}
C
PKG_CONFIG_PATH=$(dirname "$(find "$place" -name acestep.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
cc -std=c11 -Wall -Werror "$place/program.c" -o "$place/program" $(pkg-config --cflags --libs acestep)
LD_LIBRARY_PATH=$(dirname "$(find "$place" -name 'libacestep.so')") "$place/program"
