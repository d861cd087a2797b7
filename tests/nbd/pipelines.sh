# SPDX-License-Identifier: BSD-3-Clause
# pipelines.sh - an image on a web server, and what its import costs; sourced by
# the tests of docs/PIPELINES.md.
#
# SIZE=MiB for a larger disk.  NUMBERS=1 prints how long it took, too.
# shellcheck shell=bash
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/remote.sh"

# make_imported: $tmp/disk.raw, with holes as in a file system, and its
# compressed image $tmp/www/disk.qcow2 of 'size' bytes.
make_imported ()
{
    make_real "$tmp/data" $((${SIZE:-16} * M))
    qemu-img create -q -f raw "$tmp/disk.raw" $((${SIZE:-16} * 4))M
    dd if="$tmp/data" of="$tmp/disk.raw" bs=1M seek=3 conv=notrunc,sparse \
       status=none
    mkdir "$tmp/www"
    make_image "$tmp/www/disk.qcow2" "$tmp/disk.raw" -c
    size=$(stat -c %s "$tmp/www/disk.qcow2")
}

# A log of a web server, "METHOD STATUS BYTES PATH" in each line, that 'number'
# looks at.
access=
watch_log ()
{
    access=$1
}

# fetched: how many bytes of files the server has sent since the last call.
fetched ()
{
    sleep 0.2                   # The log is written after the answer.
    awk '$1 == "GET" && $2 ~ /^20/ { sum += $3; n++ }
         END { print sum + 0, "bytes in", n + 0, "requests" }' "$access"
    : >"$access"
}

# number WHAT COMMAND...: run it, and say what it took; sets 'got', the bytes.
number ()
{
    local what=$1 begin=$EPOCHREALTIME

    shift
    : >"$access"
    "$@"
    [ -z "${NUMBERS:-}" ] || echo "$what: $(awk -v a="$begin" \
        -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }')"
    got=$(fetched)
    echo "$what: $got"
    got=${got%% *}
}

# not_much_more: what the last 'number' fetched is about the size of the image.
not_much_more ()
{
    [ "$got" -le $((size + size / 5 + M)) ] || fail "$got bytes of $size"
}
