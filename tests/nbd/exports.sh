# SPDX-License-Identifier: BSD-3-Clause
# exports.sh - common functions of the tests of snapshots and bitmaps as
# exports; sourced.
# shellcheck shell=bash
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/writing.sh"

exports_client ()
{
    "$PYTHON" "$nbddir/exports_client.py" "$@"
}

# make_history FILE: an image of 4 MiB with snapshots one, two and "three/3 x",
# a bitmap 'bits' of the writes since two, and a disabled one.
make_history ()
{
    qemu-img create -q -f qcow2 "$1" 4M
    qemu-io -f qcow2 -c 'write -q -P 1 0 2M' "$1"
    qemu-img snapshot -c one "$1"
    qemu-io -f qcow2 -c 'write -q -P 2 1M 64k' -c 'write -q -z 64k 128k' \
        -c 'write -q -P 3 3M 100k' "$1"
    qemu-img snapshot -c two "$1"
    qemu-img bitmap --add -g 64k "$1" bits
    qemu-img bitmap --add --disable -g 1M "$1" "off/1"
    qemu-io -f qcow2 -c 'write -q -P 4 512k 1k' -c 'discard -q 3M 64k' "$1"
    qemu-img snapshot -c "three/3 x" "$1"
    qemu-io -f qcow2 -c 'write -q -P 5 2M 64k' "$1"
}

# history_content FILE NAME RAW: the contents of a snapshot according to QEMU;
# of the active disk if NAME is empty.
history_content ()
{
    if [ -n "$2" ]; then
        qemu-img convert -f qcow2 -O raw -l "$2" "$1" "$3"
    else
        qemu-img convert -f qcow2 -O raw "$1" "$3"
    fi
}

# has_export NAME [REGEX]: the last list has it, with a matching description.
has_export ()
{
    jq -e -s --arg name "$1" --arg re "${2-}" \
        'any (.[]; .[0] == $name and (.[1] | test ($re)))' "$tmp/list" \
        >/dev/null || {
        cat "$tmp/list" >&2
        fail "the list has no '$1' with /${2-}/"
    }
}

has_no_export ()
{
    jq -e -s --arg name "$1" 'all (.[]; .[0] != $name)' "$tmp/list" \
        >/dev/null || fail "the list has '$1'"
}

# list: writes the exports of the last server to $tmp/list.
list ()
{
    exports_client list "$sock" >"$tmp/list"
}

# counts NUMBER: the last list has so many exports.
counts ()
{
    [ "$(wc -l <"$tmp/list")" -eq "$1" ] || {
        head -n 20 "$tmp/list" >&2
        fail "$(wc -l <"$tmp/list") exports are listed, not $1"
    }
}
