#!/bin/sh
# The plug-in as it is shipped: shows one function, needs nothing of CUDA's, and holds code for every GPU that it should.
# The program and its library need nothing of CUDA's either. Usage: plugin_binary.sh BUILD NVCC
set -u
build=$1
nvcc=$2
failed=0
bad() {
    failed=$((failed + 1))
    echo "FAILED: $*"
}
needs_no_cuda() {
    needed=$(readelf -d "$1" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p')
    for library in $needed; do
        case $library in *cuda* | *cublas* | *nvidia* | *nvrtc*) bad "$1 needs $library" ;; esac
    done
    echo "$(basename "$1") needs:" $needed
}
for file in "$build/acestep" "$build"/libacestep.so; do needs_no_cuda "$file"; done

plugin=$build/libacestep-cuda.so
if [ ! -f "$plugin" ]; then
    echo "SKIPPED: the plug-in was not built (no nvcc, or ACE_CUDA=OFF)"
    [ "$failed" -eq 0 ] && exit 77
    exit 1
fi
needs_no_cuda "$plugin"
for library in $needed; do
    case $library in
        libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | libgcc_s.so* | ld-linux*) ;;
        *) bad "the plug-in needs $library" ;;
    esac
done
shown=$(nm -D --defined-only "$plugin" | awk '{print $3}' | sort | tr '\n' ' ')
[ "$shown" = "acestep_gpu " ] || bad "the plug-in shows more or less than acestep_gpu: $shown"
cuobjdump=$(dirname "$nvcc")/cuobjdump
if [ -x "$cuobjdump" ]; then
    code=$("$cuobjdump" --list-elf "$plugin" | sed -n 's/.*\.sm_\([0-9]*\)\.cubin.*/\1/p' | sort -nu | tr '\n' ' ')
    echo "machine code for: $code"
    case $code in *75*80*86*89*90*) ;; *) bad "machine code only for: $code" ;; esac
fi
size=$(wc -c <"$plugin")
echo "$((size / 1048576)) MiB"
[ "$size" -lt 67108864 ] || bad "the plug-in is larger than 64 MiB"
[ "$failed" -eq 0 ]
