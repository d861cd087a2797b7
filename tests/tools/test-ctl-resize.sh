#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl resize, set-backing, empty and amend, judged by qemu-img.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io
requires_program jq

cd "$tmp" || exit 1

size_is ()
{
    [ "$(qemu-img info --output json "$1" | jq '."virtual-size"')" -eq "$2" ] ||
        fail "$1 has not $2 bytes"
}

sound ()
{
    qemu-img check -q "$1" || fail "qemu-img check $1"
}

same ()
{
    qemu-img compare -q "$@" || fail "qemu-img compare $*"
}

# ---- resize ----

qemu-img create -q -f qcow2 i 1M
qemu-io -c 'write -P 7 0 1M' i > /dev/null
qemu-img convert -O raw i before
works resize i +1M
grep -qx 'Image resized.' "$out" || fail "resize does not say so"
size_is i 2097152
same i before
works resize --preallocation full i 8M
size_is i 8388608
[ "$(stat -c %s i)" -ge 8388608 ] || fail "it was not preallocated"
sound i
fails 1 'give --shrink' resize i -1M
fails 1 'has only' resize --shrink i -9M
size_is i 8388608
works resize --shrink i -7900k
size_is i 299008
sound i
[ "$(stat -c %s i)" -lt 1048576 ] || fail "the file was not cut"
# Nothing of what was cut off comes back, with QEMU, too.
qemu-img resize -q i 1M
head -c 299008 before > shorter
truncate -s 1M shorter
same i shorter
if has_json; then
    works --output json resize i 3M
    [ "$(jq '."virtual-size"' "$out")" -eq 3145728 ] || fail "JSON: the size"
fi
fails 1 'SIZE|missing' resize i
fails 1 '' resize i 1X
fails 1 '' resize --preallocation some i 9M

# Nor do refcount blocks keep it long.
qemu-img create -q -f qcow2 long 1G
works resize --preallocation metadata long 50G
works resize --shrink long 1G
sound long
[ "$(stat -c %s long)" -lt 1048576 ] || fail "refcount blocks keep it long"

# An image has as few refcount blocks, and as short a table, as QEMU leaves in
# it, and is no longer.  A server cannot cut its file, but has fewer blocks, too.
# number FILE OFFSET LENGTH: a big-endian one.
number ()
{
    echo $((0x$(od -An -tx1 -j"$2" -N"$3" "$1" | tr -d ' \n')))
}

# blocks FILE CLUSTER: how many the refcount table names.
blocks ()
{
    od -An -v -tx1 -w8 -j"$(number "$1" 48 8)" \
       -N$(($(number "$1" 56 4) * $2)) "$1" | grep -cv '^\( 00\)\{8\}$'
}

image_end ()
{
    qemu-img check --output json "$1" | jq '."image-end-offset"'
}

while read -r cluster options size new; do
    rm -f full
    qemu-img create -q -f qcow2 -o "cluster_size=$cluster,$options" full "$size"
    qemu-io -c "write -q -P 5 0 $size" full
    cp full theirs
    cp full ours
    cp full served
    qemu-img resize -q --shrink theirs "$new"
    works resize --shrink ours "$new"
    start_nbdkit file served
    # shellcheck disable=SC2154     # Set by start_nbdkit.
    works resize --no-lock --shrink "$uri" "$new"
    stop_nbdkit
    for i in ours served; do
        sound $i
        same $i theirs
        [ "$(blocks $i "$cluster")" -le "$(blocks theirs "$cluster")" ] ||
            fail "$cluster: $i has $(blocks $i "$cluster") refcount blocks, \
not $(blocks theirs "$cluster")"
        [ "$(number $i 56 4)" -le "$(number theirs 56 4)" ] ||
            fail "$cluster: $i has a longer refcount table"
        # The old table and its block were in front of the data.
        [ "$(image_end $i)" -le $(($(image_end theirs) + 2 * cluster)) ] ||
            fail "$cluster: $i ends at $(image_end $i)"
    done
    [ "$(stat -c %s ours)" -le $(($(stat -c %s theirs) + 2 * cluster)) ] ||
        fail "$cluster: the file has $(stat -c %s ours) bytes"
    [ "$(stat -c %s served)" -eq "$(stat -c %s full)" ] ||
        broken "the server has cut its file"
    [ "$(number ours 56 4)" -eq 1 ] ||
        fail "$cluster: the refcount table has $(number ours 56 4) clusters"
done <<'END'
4096 refcount_bits=16 64M 1M
512 refcount_bits=16 8M 1M
512 refcount_bits=64 8M 300k
65536 refcount_bits=16 64M 1M
END

# A data file is made as large as the disk, and cut.
qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on d 1M
works resize --data-file d.raw d 4M
[ "$(stat -c %s d.raw)" -eq 4194304 ] || fail "the data file was not grown"
works resize --shrink --data-file d.raw d 2M
[ "$(stat -c %s d.raw)" -eq 2097152 ] || fail "the data file was not cut"
qemu-io -c 'write -P 3 1M 1M' d > /dev/null
same -F raw d d.raw
sound d

# ---- set-backing ----

qemu-img create -q -f qcow2 base 1M
qemu-io -c 'write -P 5 0 1M' base > /dev/null
qemu-img create -q -f qcow2 -u -b gone -F raw o 1M
works set-backing -F qcow2 o base
same o base
sound o
fails 1 'never guessed' set-backing o base
fails 1 'none was' set-backing -F raw o
works set-backing o
qemu-img info o | grep -q backing && fail "it still has a backing file"
works set-backing -F qcow2 o base

# ---- empty ----

qemu-io -c 'write -P 6 0 512k' o > /dev/null
qemu-img snapshot -c s o
works empty --backing base o
same o base
sound o
qemu-img snapshot -l o | grep -qw s || fail "empty has lost a snapshot"

# ---- amend ----

qemu-io -c 'write -z 64k 128k' -c 'write 0 64k' o > /dev/null
qemu-img snapshot -c t o
qemu-img convert -O raw o before
works amend -o compat=v2 --backing base o
same o before
sound o
[ "$(qemu-img info --output json o |
     jq -r '."format-specific".data.compat')" = 0.10 ] || fail "version 2"
works amend -o compat=1.1,lazy_refcounts=on,refcount_bits=8 o
same o before
sound o
[ "$(qemu-img info --output json o |
     jq '."format-specific".data."refcount-bits"')" -eq 8 ] || fail "8 bits"
fails 1 'references' amend -o refcount_bits=1 o
fails 1 '16 bits' amend -o compat=0.10 --backing base o
fails 1 'nothing is to be changed' amend o
fails 1 'no key' amend -o cluster_size=4k o
works amend -o lazy_refcounts=off o
sound o
same o before

# ---- Locks, and what cannot be changed ----

qemu-io -c 'sleep 5000' o > /dev/null &
pid=$!
cleanup_fn kill "$pid"
wait_for has_locked "$pid" o
for command in 'resize o 9M' 'set-backing o' 'empty --backing base o' \
               'amend -o lazy_refcounts=on o'; do
    # shellcheck disable=SC2086
    fails 4 '' $command
done
fails 1 '' resize before 9M
exit 0
