#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# fio writes and trims over several connections at once, flushes now and then,
# and finds what it wrote; then QEMU finds nothing wrong with the image.
#
# Environment
#   SIZE=BYTES    how much each job writes
#   SECONDS_MORE=N    then writes on for so long
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

requires_program fio
fio --enghelp 2>/dev/null | grep -qw nbd || skip "fio has no engine nbd"
skip_if_instrumented "it only takes longer"

: "${SIZE:=6M}" "${SECONDS_MORE:=0}"

# verified NAME IMAGE-OPTIONS: jobs on regions of their own, each over its own
# connection, then all of it read by other ones.
verified ()
{
    local -a run=()

    new_image 1G -o "$2"
    start_nbdkit --filter="$filter" file "$tmp/disk.qcow2"
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

# Two that share tables: 64k of one, 64k of the other.
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
    fio "${run[@]}" --output="$tmp/fio.log" "$tmp/job.fio" ||
        fail "$1: fio finds that it is wrong"
    ! grep -E 'verify: bad|error=[^0]' "$tmp/fio.log" || fail "$1"
    stop_nbdkit
    qemu-img check -q "$tmp/disk.qcow2" || fail "$1: not clean"
    qemu-io -f qcow2 -c 'write -q -P 1 100M 10M' -c 'write -q -z 0 1M' \
        "$tmp/disk.qcow2"
    qemu-img check -q "$tmp/disk.qcow2" || fail "$1: not clean after QEMU"
}

for SEED in 1 2; do
    verified "clusters of 4k, seed $SEED" cluster_size=4k
done
verified "clusters of 512" cluster_size=512
verified "version 2" compat=0.10,cluster_size=4k
