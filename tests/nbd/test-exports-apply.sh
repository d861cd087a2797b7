#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# nbd-apply-extents: a difference applied to a copy makes it the new disk, for
# random histories of disks that grow and shrink; refusals; a copy that is not
# complete is reported.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

apply ()
{
    "$PYTHON" "$top_srcdir/tools/nbd-apply-extents" "$@"
}

# apply_fails REGEX ARGUMENT...
apply_fails ()
{
    local regex=$1 status=0

    shift
    apply "$@" >"$tmp/apply" 2>&1 || status=$?
    [ $status -eq 1 ] || fail "status $status of apply $*"
    grep -q -e "$regex" "$tmp/apply" ||
        fail "no message like '$regex': $(cat "$tmp/apply")"
}

image=$tmp/disk.qcow2
make_history "$image"
for name in one two "three/3 x" ""; do
    history_content "$image" "$name" "$tmp/content${name//[\/ ]/}"
done

echo "what other tools do to a copy"
start_nbdkit -r --filter="$filter" file "$image"
cp "$tmp/contentone" "$tmp/copy"
nbdcopy "$(export_uri diff/one..two)" "$tmp/copy"
if cmp -s "$tmp/copy" "$tmp/contenttwo"; then
    fail "nbdcopy does what nbd-apply-extents is for"
fi

echo "to a file, by a chain of differences, by a bitmap"
cp "$tmp/contentone" "$tmp/copy"
apply "$(export_uri diff/one..two)" "$tmp/copy" >"$tmp/said"
cmp "$tmp/copy" "$tmp/contenttwo" || fail "one..two"
[ "$(cat "$tmp/said")" = \
  "196608 bytes in 3 extents copied, 131072 zeroed" ] ||
    fail "it said: $(cat "$tmp/said")"
apply --quiet "$(export_uri "diff/two..three%2F3%20x")" "$tmp/copy" \
    >"$tmp/said" 2>&1
cmp "$tmp/copy" "$tmp/contentthree3x" || fail "two..three"
[ ! -s "$tmp/said" ] || fail "--quiet: it said $(cat "$tmp/said")"
apply --progress "$(export_uri "diff/three%2F3%20x..")" "$tmp/copy" \
    2>"$tmp/said" >/dev/null
cmp "$tmp/copy" "$tmp/content" || fail "three.."
grep -q '100%, 0 MiB copied' "$tmp/said" || fail "--progress"
cp "$tmp/contenttwo" "$tmp/copy"
apply "$(export_uri bitmap/bits)" "$tmp/copy" >/dev/null
cmp "$tmp/copy" "$tmp/content" || fail "a bitmap"
for i in 1 2 64; do
    cp "$tmp/contentone" "$tmp/copy"
    apply --connections $i "$(export_uri diff/one..two)" "$tmp/copy" >/dev/null
    cmp "$tmp/copy" "$tmp/contenttwo" || fail "$i connections"
done

echo "many small extents, by a system that writes a part of what it is given"
cat >"$tmp/parts.py" <<'END'
import os
import runpy
import sys
write = os.pwrite
os.pwrite = lambda fd, data, at: write(fd, memoryview(data)[:9999], at)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
END
qemu-img create -q -f qcow2 "$tmp/small.qcow2" 20M
qemu-img snapshot -c before "$tmp/small.qcow2"
for ((i = 0; i < 150; i++)); do
    echo "write -q -P $((i + 1)) $((i * 128 + i % 2 * 64))k 64k"
done | qemu-io -f qcow2 "$tmp/small.qcow2"
history_content "$tmp/small.qcow2" "" "$tmp/now.raw"
start_nbdkit -P small -r --filter="$filter" file "$tmp/small.qcow2"
for i in 1 4; do
    rm -f "$tmp/copy"
    truncate -s 20M "$tmp/copy"
    "$PYTHON" "$tmp/parts.py" "$top_srcdir/tools/nbd-apply-extents" \
        --connections $i "$(export_uri diff/before.. small)" "$tmp/copy" \
        >"$tmp/said"
    cmp "$tmp/copy" "$tmp/now.raw" || fail "small extents, $i connections"
    grep -q "^$((150 * 65536)) bytes in " "$tmp/said" ||
        fail "it said: $(cat "$tmp/said")"
done
stop_nbdkit small

echo "to exports"
cp "$tmp/contentone" "$tmp/copy"
start_nbdkit -P target file "$tmp/copy"
apply "$(export_uri diff/one..two)" "$uri" >/dev/null
stop_nbdkit target
cmp "$tmp/copy" "$tmp/contenttwo" || fail "to a raw export"
make_image "$tmp/copy.qcow2" "$tmp/contentone"
start_nbdkit -P target --filter="$filter" file "$tmp/copy.qcow2"
apply "$(export_uri diff/one..two)" "$uri" >/dev/null
stop_nbdkit target
qemu-img compare -q -f qcow2 -F raw "$tmp/copy.qcow2" "$tmp/contenttwo" ||
    fail "to a qcow2 image"
qemu-img check -q "$tmp/copy.qcow2" || fail "the copy is not clean"

stop_nbdkit
echo "what now reads as zeros is neither read nor written"
# 250 MiB that were data once, of which some were no zeros, and 64 KiB that are.
qemu-img create -q -f qcow2 -o preallocation=metadata "$tmp/large.qcow2" 300M
qemu-io -f qcow2 -c 'write -q -P 1 10M 3M' -c 'write -q -P 2 200M 1M' \
    "$tmp/large.qcow2"
qemu-img bitmap --add "$tmp/large.qcow2" bits
qemu-img snapshot -c before "$tmp/large.qcow2"
qemu-img convert -f qcow2 -O raw "$tmp/large.qcow2" "$tmp/large.raw"
qemu-io -f qcow2 -c 'discard -q 0 250M' -c 'write -q -P 3 260M 64k' \
    "$tmp/large.qcow2"
history_content "$tmp/large.qcow2" "" "$tmp/now.raw"

# sum LOG WHAT: how many bytes such requests had.
sum ()
{
    sed -n "s/.* $2 id=.* count=\\(0x[0-9a-f]*\\) .*/\\1/p" "$1" |
        while read -r n; do echo $((n)); done |
        awk '{ n += $1 } END { print n + 0 }'
}

requires_filter log
for name in diff/before.. bitmap/bits; do
    start_nbdkit -P source -r --filter=log --filter="$filter" file \
        "$tmp/large.qcow2" logfile="$tmp/source.log"
    from=$(export_uri "$name" source)
    cp "$tmp/large.raw" "$tmp/copy"
    apply "$from" "$tmp/copy" >"$tmp/said"
    cmp "$tmp/copy" "$tmp/now.raw" || fail "$name to a file"
    grep -qx '65536 bytes in 2 extents copied, 262144000 zeroed' \
        "$tmp/said" || fail "$name: it said: $(cat "$tmp/said")"
    # A system without holes: zeros are written.
    if [ "$name" = bitmap/bits ]; then
        cp "$tmp/large.raw" "$tmp/copy"
        "$PYTHON" -c 'if True:
            import runpy, sys, ctypes
            ctypes.CDLL = lambda *a, **k: object()
            sys.argv = sys.argv[1:]
            runpy.run_path(sys.argv[0], run_name="__main__")' \
            "$top_srcdir/tools/nbd-apply-extents" --quiet "$from" \
            "$tmp/copy" || fail "without fallocate"
        cmp "$tmp/copy" "$tmp/now.raw" || fail "$name without fallocate"
    fi
    cp "$tmp/large.raw" "$tmp/copy"
    start_nbdkit -P target --filter=log file "$tmp/copy" \
        logfile="$tmp/target.log"
    apply --quiet "$from" "$uri"
    stop_nbdkit target
    stop_nbdkit source
    cmp "$tmp/copy" "$tmp/now.raw" || fail "$name to an export"
    [ "$(sum "$tmp/source.log" Read)" -le $((3 * 65536)) ] ||
        fail "$name: $(sum "$tmp/source.log" Read) bytes were read"
    [ "$(sum "$tmp/target.log" Write)" = 65536 ] ||
        fail "$name: $(sum "$tmp/target.log" Write) bytes were written"
    [ "$(sum "$tmp/target.log" Zero)" = 262144000 ] ||
        fail "$name: $(sum "$tmp/target.log" Zero) bytes were zeroed"
    [ "$(grep -c ' Zero id=' "$tmp/target.log")" -le 4 ] ||
        fail "$name: $(grep -c ' Zero id=' "$tmp/target.log") requests"
    rm "$tmp/source.log" "$tmp/target.log"
done
start_nbdkit -r --filter="$filter" file "$image"

echo "what is refused"
one_two=$(export_uri diff/one..two)
apply_fails 'no such file; make a first copy' "$one_two" "$tmp/none"
truncate -s 1M "$tmp/small"
apply_fails 'has 1048576 bytes, the source 4194304; --resize' "$one_two" \
    "$tmp/small"
apply_fails 'this is a qcow2 image' "$one_two" "$tmp/copy.qcow2"
apply_fails 'neither a file nor a block device' "$one_two" /dev/null
apply_fails "diff/one..none" "$(export_uri diff/one..none)" "$tmp/copy"
start_nbdkit -P target file "$tmp/small"
apply_fails 'has 1048576 bytes' "$one_two" "$uri"
apply_fails 'for raw files only' --resize "$one_two" "$uri"
stop_nbdkit target
start_nbdkit -P target -r file "$tmp/copy"
apply_fails 'is read-only' "$one_two" "$uri"
stop_nbdkit target
cmp -n 1048576 "$tmp/small" /dev/zero || fail "it was written to"
status=0
apply --connections 0 a b >/dev/null 2>&1 || status=$?
[ $status -eq 2 ] || fail "status $status for a wrong option"
stop_nbdkit
start_nbdkit -r --no-sr --filter="$filter" file "$image"
apply_fails 'does not say which extents' "$(export_uri diff/one..two)" \
    "$tmp/copy"
stop_nbdkit

echo "a server that lets one client in"
if "$NBDKIT" --dump-plugin --filter=limit null >/dev/null 2>&1 &&
        "$NBDKIT" --dump-plugin --filter=multi-conn null >/dev/null 2>&1; then
    start_nbdkit -r --filter=limit --filter=multi-conn --filter="$filter" \
        file "$image" limit=1 multi-conn-mode=disable
    cp "$tmp/contentone" "$tmp/copy"
    apply "$(export_uri diff/one..two)" "$tmp/copy" >/dev/null
    cmp "$tmp/copy" "$tmp/contenttwo" || fail "one connection"
    stop_nbdkit
fi

echo "errors in the middle"
requires_filter error
start_nbdkit -r --filter=error --filter="$filter" file "$image" \
    error-pread-rate=100% error-pread-file="$tmp/fail"
touch "$tmp/fail"
cp "$tmp/contentone" "$tmp/copy"
apply_fails 'incomplete' "$(export_uri diff/one..two)" "$tmp/copy"
rm "$tmp/fail"
apply "$(export_uri diff/one..two)" "$tmp/copy" >/dev/null
cmp "$tmp/copy" "$tmp/contenttwo" || fail "repeated after an error"
cp "$tmp/contentone" "$tmp/copy"
start_nbdkit -P target --filter=error file "$tmp/copy" error-pwrite-rate=100% \
    error-pwrite-file="$tmp/fail"
touch "$tmp/fail"
apply_fails 'incomplete' "$(export_uri diff/one..two)" "$uri"
rm "$tmp/fail"
stop_nbdkit target
stop_nbdkit

echo "random histories"
cat >"$tmp/history.py" <<'END'
import random
import sys
from qsnap import Snapshots

seed, out = int(sys.argv[1]), sys.argv[2]
rng = random.Random(seed)
bits = rng.choice((9, 12, 16))
unit = 1 << bits
image = Snapshots(rng.randint(1, 300) * 4096, bits)
for number in range(6):
    for _ in range(rng.randint(0, 30)):
        index = rng.randrange(max(1, image.active.size // unit))
        image.write(index, None if rng.random() < 0.3 else
                    bytes(unit) if rng.random() < 0.2 else
                    rng.randbytes(unit))
    image.snapshot(f"s{number}".encode(), str(number).encode(),
                   vm_state=b"vm" * 5000 if rng.random() < 0.5 else b"")
    if rng.random() < 0.7:
        size = rng.randint(1, 300) * 4096
        for index in list(image.active.clusters):
            if (index + 1) * unit > size:
                image.write(index, None)
        image.resize(size)
image.save(f"{out}.qcow2")
for number in range(6):
    open(f"{out}.s{number}", "wb").write(image.content(number))
open(f"{out}.", "wb").write(image.content())
END
for seed in 1 2 3 4 5 6; do
    "$PYTHON" "$tmp/history.py" $seed "$tmp/h"
    qemu-img check -q "$tmp/h.qcow2" || broken "history $seed"
    start_nbdkit -r --filter="$filter" file "$tmp/h.qcow2"
    for pair in s0..s1 s1..s0 s1..s2 s3..s0 s5..s2 s4.. s0.. s2..s5; do
        cp "$tmp/h.${pair%%..*}" "$tmp/copy"
        apply --resize "$(export_uri diff/$pair)" "$tmp/copy" >/dev/null
        cmp "$tmp/copy" "$tmp/h.${pair##*..}" || fail "seed $seed, $pair"
    done
    stop_nbdkit
done
