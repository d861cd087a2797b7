#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The list of exports: active disks, snapshots and bitmaps, with descriptions;
# broken images and other files do no harm.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_program jq
image=$tmp/disk.qcow2
make_history "$image"
date='20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'

# check_history PREFIX: check the last list's exports of this image.
check_history ()
{
    has_export "${1}snapshot/one" "^snapshot of $date, disk 4194304 bytes\$"
    has_export "${1}snapshot/two" "^snapshot of $date"
    has_export "${1}snapshot/three/3 x" "^snapshot of $date"
    has_export "${1}bitmap/bits" '^bitmap, granularity 65536 bytes, enabled$'
    has_export "${1}bitmap/off/1" \
        '^bitmap, granularity 1048576 bytes, disabled$'
}

for options in "-r" ""; do
    echo "file= $options"
    # shellcheck disable=SC2086
    start_nbdkit $options -v --filter="$filter" file "$image"
    list
    counts 6
    has_export "" '^qcow2 version 3, cluster size 65536$'
    check_history ""
    # While a client is connected, too.
    start_client "touch:$tmp/there"
    list
    counts 6
    finish_client
    # Opened once for the list and its clients, which connect in sequence.
    [ -z "$options" ] || [ "$(opens)" = 1 ] || fail "opened $(opens) times"
    stop_nbdkit
    has_not_logged 'error:'
done

echo "nbdinfo opens all that is listed"
start_nbdkit -r --filter="$filter" file "$image"
nbdinfo --list --json "nbd+unix:///?socket=$sock" >"$tmp/json"
jq -e '.exports | length == 6 and all (.[]; ."export-size" == 4194304)' \
    "$tmp/json" >/dev/null || fail "nbdinfo: $(cat "$tmp/json")"
jq -e '.exports[] | select (."export-name" == "bitmap/bits")
       | .description | test ("granularity 65536")' "$tmp/json" >/dev/null ||
    fail "nbdinfo shows no description"
stop_nbdkit

echo "versions 1 and 2, nothing inside"
qemu-img create -q -f qcow "$tmp/v1.qcow" 1M
qemu-img create -q -f qcow2 -o compat=0.10 "$tmp/v2.qcow2" 1M
for i in v1.qcow v2.qcow2; do
    start_nbdkit --filter="$filter" file "$tmp/$i"
    list
    counts 1
    stop_nbdkit
done
qemu-img snapshot -c old "$tmp/v2.qcow2"
start_nbdkit --filter="$filter" file "$tmp/v2.qcow2"
list
has_export snapshot/old "^snapshot of $date, disk 1048576 bytes\$"
stop_nbdkit

echo "in a directory, among other things"
mkdir "$tmp/images"
cp "$image" "$tmp/images/a.qcow2"
cp "$image" "$tmp/images/snapshot"
echo "no image" >"$tmp/images/readme"
: >"$tmp/images/empty"
head -c 100 "$image" >"$tmp/images/cut"
cp "$image" "$tmp/images/broken"
printf '\377\377\377\377' |
    dd of="$tmp/images/broken" bs=1 seek=36 conv=notrunc status=none
cp "$image" "$tmp/images/broken-snapshots"
printf '\377\377\377\377' |
    dd of="$tmp/images/broken-snapshots" bs=1 seek=60 conv=notrunc status=none
mkdir "$tmp/images/folder"
for options in "-r" ""; do
    # shellcheck disable=SC2086
    start_nbdkit $options -v --filter="$filter" file dir="$tmp/images"
    list
    for i in a.qcow2 snapshot cut broken broken-snapshots; do
        has_export "$i"
    done
    check_history a.qcow2/
    check_history snapshot/
    has_export a.qcow2 'cluster size 65536'
    has_export broken '^$'
    # Other files are not listed.
    counts 15
    stop_nbdkit
    has_not_logged 'error:'
    has_logged 'debug: .*readme: not a qcow2 image'
done

echo "nbdinfo opens all of the list"
mkdir "$tmp/mixed"
cp "$image" "$tmp/mixed/a.qcow2"
cp "$image" "$tmp/mixed/b.qcow2"
echo "no image" >"$tmp/mixed/readme"
: >"$tmp/mixed/empty"
gzip -c "$image" >"$tmp/mixed/a.qcow2.gz"
head -c 1M /dev/zero >"$tmp/mixed/raw"
for options in "-r" ""; do
    # shellcheck disable=SC2086
    start_nbdkit $options --filter="$filter" file dir="$tmp/mixed"
    nbdinfo --list "$uri" >"$tmp/nbdinfo" || fail "nbdinfo fails: $(cat "$log")"
    for i in a.qcow2 b.qcow2; do
        grep -q "^export=\"$i\":" "$tmp/nbdinfo" || fail "$i is not listed"
    done
    ! grep -E '^export="(readme|empty|raw|a.qcow2.gz)"' "$tmp/nbdinfo" ||
        fail "what is no image is listed"
    stop_nbdkit
done

echo "an image that somebody else has open"
if ! qemu-io -c 'help' >/dev/null 2>&1; then
    broken "no qemu-io"
fi
start_nbdkit -v --filter="$filter" file "$image"
coproc qemu_io { exec qemu-io -f qcow2 "$image" 2>&1; }
wait_open ()
{
    local i

    echo 'write -P 9 0 64k' >&"${qemu_io[1]}"
    for ((i = 0; i < 100; i++)); do
        read -r -t 5 line <&"${qemu_io[0]}" || break
        case $line in *wrote*) return 0 ;; esac
    done
    broken "qemu-io does not write"
}
wait_open
list
counts 1
has_export "" '^$'
echo quit >&"${qemu_io[1]}"
# shellcheck disable=SC2154
wait "$qemu_io_PID" || true
list
has_export snapshot/one
stop_nbdkit

echo "why an image is read-only is said to who could have written, once"
start_nbdkit --filter="$filter" file "$tmp/v1.qcow"
list
has_not_logged 'read-only'
nbdtool size "$uri" >/dev/null
nbdtool size "$uri" >/dev/null
[ "$(grep -c 'is served read-only: .*version 1' "$log")" -eq 1 ] ||
    fail "it was not said once"
stop_nbdkit
