#!/bin/sh
# Installs the distribution's packages that are missing, after asking. Usage: tools/setup.sh build|check
set -eu

packages="gcc libc6-dev make cmake pkg-config libjansson-dev libsndfile1-dev libutf8proc-dev libxxhash-dev"
[ "${1:-build}" = check ] && packages="$packages git g++ clang clang-format libclang-rt-dev libcmocka-dev"

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "This is not Debian or Ubuntu: please install the equivalents of: $packages" >&2
    exit 0
fi

missing=""
for package in $packages; do
    # A package may be there under another name that provides it (pkgconf for pkg-config, versioned compilers).
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "These packages are missing and need an administrator:$missing" >&2
        exit 1
    fi
    sudo=sudo
    if [ -t 0 ]; then
        printf 'Install with sudo apt-get:%s ? [y/N] ' "$missing"
        read -r answer
        case "$answer" in y | Y | yes) ;; *) echo "Nothing was installed."; exit 1 ;; esac
    elif [ "${CI:-}" != true ]; then
        echo "These packages are missing; run: sudo apt-get install$missing" >&2
        exit 1
    fi
fi
$sudo apt-get update -q
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing
