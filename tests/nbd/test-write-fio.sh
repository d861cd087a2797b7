#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# fio writes and trims over several connections at once, flushes now and then,
# and verifies its writes; then QEMU finds no errors in the image.
#
# Requests for the same bytes do not run at the same time: a block of eight
# clusters may be written and read in parts, so that what comes of two writes,
# or a read beside a write, has some of each, as it may in NBD.
#
# Environment
#   SIZE=BYTES    how much each job writes
#   SECONDS_MORE=N    then writes on for so long
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

requires_program fio
fio --enghelp 2>/dev/null | grep -qw nbd || skip "fio has no engine nbd"
skip_if_instrumented "it only takes longer"

: "${SIZE:=6M}" "${SECONDS_MORE:=0}"

disk_size=$((1024 * 1024 * 1024))
# shellcheck disable=SC2034     # The disks are too large for raw files.
no_content=1

make_plain ()
{
    create "$1"
}

# Over a compressed backing image, with data where jobs write, and after that.
make_over ()
{
    local base=$tmp/lower-1.qcow2

    create cluster_size=64k
    make_disk "$tmp/pattern" $((16 * 1024 * 1024)) 65536
    for i in 0 1 2 3 4 5; do
        head -c 50M "$tmp/pattern"
        head -c 34M /dev/zero
    done >"$tmp/pattern-all"
    qemu-img convert -c -f raw -O qcow2 "$tmp/pattern-all" "$base"
    rm "$tmp"/pattern*
    over "$base" qcow2 "$1"
    keep "$base"
}

# verified NAME IMAGE-OPTIONS [KIND]: each job has its own region and its own
# connection; then other jobs read all of it.
verified ()
{
    local -a run=() opened

    "make_${3:-plain}" "$2"
    in_qemu "$image"
    start_nbdkit --filter="$filter" file "$image" "${parameters[@]}"
    if [ "$SECONDS_MORE" -gt 0 ]; then
        run=(--time_based --runtime="$SECONDS_MORE")
    fi
    cat >"$tmp/job.fio" <<JOB
[global]
ioengine=nbd
uri=$uri
size=$SIZE
group_reporting=1
verify=crc32c
verify_fatal=1
verify_backlog=64
fsync=24
serialize_overlap=1
randseed=$SEED

[small]
rw=randwrite
bs=4k
iodepth=16
offset=0

[odd]
rw=randwrite
bs=12k
iodepth=8
offset=50M

[cluster]
rw=randrw
bs=64k
iodepth=8
offset=100M

[large]
rw=write
bs=1M
iodepth=4
offset=150M

[rewrite]
rw=randwrite
bs=4k
size=256k
io_size=$SIZE
iodepth=16
offset=200M

[trimmed]
# Each block is trimmed, then written.
rw=randtrimwrite
bs=64k
iodepth=4
offset=250M

# Two jobs that share tables, in alternating pieces of 64k.
[even]
rw=randwrite
bs=4k
iodepth=8
offset=300M
zonemode=strided
zonesize=64k
zonerange=64k
zoneskip=64k
loops=2

[odd-trims]
rw=randtrim
bs=4k
iodepth=8
offset=307264k
zonemode=strided
zonesize=64k
zonerange=64k
zoneskip=64k
verify=0
loops=4
JOB
    # fio leaves files in the current folder.
    (cd "$tmp" && fio "${run[@]}" --output="$tmp/fio.log" "$tmp/job.fio") ||
        fail "$1: fio finds that it is wrong"
    ! grep -E 'verify: bad|error=[^0]' "$tmp/fio.log" || fail "$1"
    stop_nbdkit
    qemu-img check -q "${opened[@]}" || fail "$1: not clean"
    qemu-io "${opened[@]}" -c 'write -q -P 1 100M 10M' -c 'write -q -z 0 1M'
    qemu-img check -q "${opened[@]}" || fail "$1: not clean after QEMU"
    data_is_disk='' check_layers
}

for SEED in 1 2; do
    verified "clusters of 4k, seed $SEED" cluster_size=4k
done
verified "clusters of 512" cluster_size=512
verified "version 2" compat=0.10,cluster_size=4k
verified "an overlay" cluster_size=64k over
verified "an overlay, subclusters" cluster_size=16k,extended_l2=on over
verified "encrypted" cluster_size=4k luks
verified "a data file" cluster_size=64k data_raw
