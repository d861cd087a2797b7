#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Opening an image for writing, reading it and mapping it writes nothing: not a
# byte, not a time stamp, even if a writer would have to prepare much.  Its
# backing files are never written to.
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

probe ()
{
    nbdinfo "$uri" >/dev/null
    nbdinfo --list "$uri" >/dev/null
    nbdinfo --map "$uri" >/dev/null
    nbdtool read "$uri" 0 65536 >/dev/null
    # Connected for longer than the ticker waits.
    [ $# -eq 0 ] || { start_client f; sleep 6; finish_client; }
    # A flush of nothing.
    writetool "$uri" f
}

# state: the state of all files of the image.
state ()
{
    stat -c '%n %s %b %y %z' "$image" "${lower[@]}" ${data:+"$data"}
    sha256sum "$image" "${lower[@]}" ${data:+"$data"}
}

# unchanged WHAT [probe's argument]: probing does not change it.
unchanged ()
{
    local what=$1

    shift
    state >"$tmp/before"
    start_nbdkit --filter="$filter" file "$image" "${parameters[@]}"
    probe "$@"
    stop_nbdkit
    state | diff "$tmp/before" - || fail "$what: it was written to, or touched"
}

new_image 64M
unchanged "an empty image" longer
qemu-io -f qcow2 -c 'write -q -P 1 1M 8M' "$image"
unchanged "data"
qemu-img snapshot -c one "$image"
qemu-img bitmap --add --enable "$image" bitmap
unchanged "snapshots and bitmaps"
qemu-img create -q -f qcow2 -o lazy_refcounts=on "$image" 64M
unchanged "lazy refcounts"
qemu-io -f qcow2 -c 'write -q -P 1 1M 8M' -c 'flush' -c 'abort' "$image" \
    >/dev/null 2>&1 || true
[ "$(od -An -tu1 -j 79 -N 1 "$image" | tr -d ' ')" = 1 ] ||
    broken "qemu-io left no dirty image"
unchanged "an image that was not closed"
qemu-img create -q -f qcow2 -o compat=0.10 "$image" 64M
unchanged "version 2"

echo "unknown autoclear bits"
qemu-img create -q -f qcow2 "$image" 64M
printf '\200' | dd of="$image" bs=1 seek=88 conv=notrunc status=none
unchanged "autoclear"
# A write clears them, which proves that the test works.
start_nbdkit --filter="$filter" file "$image"
writetool "$uri" w:0:512:1
stop_nbdkit
[ "$(od -An -tu1 -j 88 -N 1 "$image" | tr -d ' ')" = 0 ] ||
    fail "a write did not clear an unknown autoclear bit"
qemu-img check -q "$image" || fail "not clean"

echo "what does not stand alone"
for kind in over_short over_compressed chain3 over_snapshot luks \
        luks_over_luks aes data data_raw data_short; do
    "make_$kind" cluster_size=64k
    unchanged "$kind"
done

echo "what is below, when the image is written to"
for kind in over_short chain3 luks_over_luks; do
    "make_$kind" cluster_size=64k
    stat -c '%n %s %b %y %z' "${lower[@]}" >"$tmp/before"
    start_nbdkit --filter="$filter" file "$image" "${parameters[@]}"
    writetool "$uri" --raw "$raw" w:100:1M:1 z:8M:4M t:12M:1M f
    nbdtool compare "$uri" "$raw" --reads 20
    stop_nbdkit
    stat -c '%n %s %b %y %z' "${lower[@]}" | diff "$tmp/before" - ||
        fail "$kind: what is below was touched"
    check_kept
done

echo "an image that may only be read leaves its data file alone"
for kind in data data_raw data_short; do
    "make_$kind" cluster_size=64k
    # Marked as corrupt, in addition to "has a data file".
    printf '\6' | dd of="$image" bs=1 seek=79 conv=notrunc status=none
    state >"$tmp/before"
    start_nbdkit --filter="$filter" file "$image" "${parameters[@]}"
    check_read_only
    stop_nbdkit
    has_logged ': is served read-only: .*corrupt'
    state | diff "$tmp/before" - || fail "$kind: it was written to"
done
