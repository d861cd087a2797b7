#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl snapshot create, apply, delete: QEMU agrees with each step.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io

img=$tmp/disk.qcow2

# reads BYTE: the first MiB of the disk, and the image is clean.
reads ()
{
    qemu-img check -q "$img" || fail "qemu-img check of $img"
    qemu-io -c "read -P $1 0 1M" "$img" > "$tmp/io" 2>&1
    if grep -q -e 'verification failed' -e error "$tmp/io"; then
        cat "$tmp/io" >&2
        fail "the disk does not read as $1"
    fi
}

snapshots ()
{
    qemu-img snapshot -l "$img" | awk 'NR > 2 { print $1, $2 }' | paste -sd ,
}

for options in compat=0.10 compat=1.1 cluster_size=4k,lazy_refcounts=on \
               extended_l2=on,refcount_bits=32; do
    rm -f "$img"
    qemu-img create -q -f qcow2 -o "$options" "$img" 16M
    qemu-io -c 'write -q -P 1 0 3M' "$img"
    works snapshot create "$img" one
    works snapshot create --id 7 "$img" 'the second'
    works snapshot create "$img" one
    [ "$(snapshots)" = '1 one,7 the,8 one' ] || fail "there are $(snapshots)"
    reads 1
    qemu-io -c 'write -q -P 2 0 2M' "$img"
    works snapshot apply "$img" 'the second'
    reads 1
    qemu-io -c 'write -q -P 3 0 2M' "$img"
    works snapshot delete --by-id "$img" 8
    works snapshot delete "$img" 'the second'
    reads 3
    [ "$(snapshots)" = '1 one' ] || fail "there are $(snapshots)"
    qemu-img snapshot -a one "$img"
    reads 1
    works snapshot delete "$img" one
    reads 1

    # Names that are not there, or are there already.
    fails 5 "no snapshot with the name 'one'" snapshot delete "$img" one
    fails 5 "no snapshot with the id '1'" snapshot apply --by-id "$img" 1
    works snapshot create --id 3 "$img" a
    fails 5 "the id '3' already" snapshot create --id 3 "$img" b
    fails 5 "the name 'a' already" snapshot create --unique "$img" a
    reads 1
done

# An overlay, with its backing file given.
qemu-img create -q -f qcow2 -b "$img" -F qcow2 "$tmp/over.qcow2"
works snapshot create --backing "$img" "$tmp/over.qcow2" s
qemu-img check -q "$tmp/over.qcow2" || fail "the overlay"
qemu-img snapshot -l "$tmp/over.qcow2" | grep -q ' s ' ||
    fail "no snapshot of the overlay"

# Data files have none.
qemu-img create -q -f qcow2 -o data_file="$tmp/data.raw" "$tmp/d.qcow2" 1M
fails 1 'in another file' \
      snapshot create --data-file "$tmp/data.raw" "$tmp/d.qcow2" s

# Progress, and an image that is in use.
works -q snapshot delete "$img" a
run_ctl -p snapshot create "$img" p
[ "$code" -eq 0 ] || fail "-p fails"
grep -q '100/100%' "$err" || fail "there is no progress"
if type qemu-nbd > /dev/null 2>&1; then
    qemu-nbd -t -f qcow2 -k "$tmp/sock" --pid-file="$tmp/pid" "$img" &
    while [ ! -s "$tmp/pid" ]; do sleep 0.1; done
    fails 4 '' snapshot delete "$img" p
    kill "$(cat "$tmp/pid")"
    wait
    works snapshot delete "$img" p
    reads 1
fi

# The bytes on an NBD server, which has no locks.
if type nbdkit > /dev/null 2>&1; then
    start_raw ()
    {
        nbdkit -P "$tmp/raw.pid" -U "$tmp/raw.sock" file "$img"
        while [ ! -s "$tmp/raw.pid" ]; do sleep 0.1; done
    }
    start_raw
    uri="nbd+unix:///?socket=$tmp/raw.sock"
    fails 1 'no-lock' snapshot create "$uri" over
    works snapshot create --no-lock "$uri" over
    kill "$(cat "$tmp/raw.pid")"
    while kill -0 "$(cat "$tmp/raw.pid")" 2> /dev/null; do sleep 0.1; done
    [ "$(snapshots)" = '1 over' ] || fail "there are $(snapshots)"
    reads 1
fi
# An overlay: nothing of its backing file is needed, not even that it is there.
qemu-img create -q -f raw "$tmp/base.raw" 16M
qemu-io -f raw -c 'write -q -P 5 0 16M' "$tmp/base.raw"
rm -f "$img"
qemu-img create -q -f qcow2 -b base.raw -F raw "$img"
qemu-io -c 'write -q -P 1 0 1M' "$img"
mv "$tmp/base.raw" "$tmp/away.raw"
works snapshot create "$img" one
works bitmap add "$img" b
mv "$tmp/away.raw" "$tmp/base.raw"
qemu-io -c 'write -q -P 2 0 2M' "$img"
works bitmap remove "$img" b
works snapshot apply "$img" one
reads 1
qemu-io -c 'read -P 5 1M 15M' "$img" > "$tmp/io" 2>&1
! grep -q 'verification failed' "$tmp/io" || fail "not what is in the backing file"
works snapshot delete --backing "$tmp/base.raw" "$img" one
reads 1
echo "ok"
