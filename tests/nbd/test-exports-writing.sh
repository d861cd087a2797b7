#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots and bitmaps as exports while other clients write to the active
# disk: snapshots do not change, an enabled bitmap fails from the first write on
# until all writers have left, the first client may use any export, and QEMU
# finds no errors in the image in the end.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_program jq
mkdir "$tmp/images"
image=$tmp/images/disk.qcow2

# serve_it KIND: serve it by file= or dir=; sets $p, the prefix of names.
serve_it ()
{
    if [ "$1" = file ]; then
        p=
        start_nbdkit -v --filter="$filter" file "$image"
    else
        p=disk.qcow2/
        start_nbdkit -v --filter="$filter" file dir="$tmp/images"
    fi
    active=$(export_uri "${p%/}")
}

fresh_image ()
{
    rm -f "$image"
    make_history "$image"
    # A file in a directory grows only from nbdkit 1.44 on.
    truncate -s +16M "$image"
    for name in one two; do
        history_content "$image" $name "$tmp/content$name"
    done
    history_content "$image" "" "$tmp/disk.raw"
    cp "$tmp/disk.raw" "$tmp/before.raw"
}

check_snapshots ()
{
    nbdtool compare "$(export_uri "${p}snapshot/one")" "$tmp/contentone"
    nbdtool compare "$(export_uri "${p}snapshot/two")" "$tmp/contenttwo"
}

# in_the_end: checks after the last client has left.
in_the_end ()
{
    stop_nbdkit
    check_image_of "$image"
    for name in one two; do
        history_content "$image" $name "$tmp/now"
        cmp "$tmp/now" "$tmp/content$name" || fail "snapshot $name changed"
    done
}

for kind in file dir; do
    echo "$kind: writers come first, or readers of a snapshot do"
    fresh_image
    serve_it $kind
    check_snapshots
    "$PYTHON" - "$sock" "${p}snapshot/one" "$active" "$tmp" <<'END'
import sys
from exports_client import check
from nbdtool import Raw, connect

socket, name, active, tmp = sys.argv[1:]
one = Raw(f"{tmp}/contentone")
reader = connect(socket, name)
assert reader.is_read_only()
check(reader, one)
writer = connect(active)
assert not writer.is_read_only()
raw = bytearray(open(f"{tmp}/disk.raw", "rb").read())
for at, length, byte in ((0, 4096, 9), (1 << 20, 300000, 10),
                         (2 << 20, 65536, 11), (100, 5, 12)):
    writer.pwrite(bytes([byte]) * length, at)
    raw[at:at + length] = bytes([byte]) * length
    check(reader, one)
writer.trim(1 << 20, 3 << 20)
raw[3 << 20:] = bytes(1 << 20)
writer.flush()
another = connect(socket, name)
check(another, one)
another.shutdown()
assert bytes(writer.pread(len(raw) // 4, 0)) == raw[:len(raw) // 4]
writer.shutdown()
# The image stays open for this client.
check(reader, one)
writer = connect(active)
writer.pwrite(b"again" * 1000, 555555)
raw[555555:560555] = b"again" * 1000
check(reader, one)
reader.shutdown()
writer.pwrite(b"last" * 1000, 777777)
raw[777777:781777] = b"last" * 1000
writer.shutdown()
open(f"{tmp}/disk.raw", "wb").write(raw)
END
    check_snapshots
    in_the_end

    echo "$kind: a bitmap, before and after the first write"
    fresh_image
    serve_it $kind
    bitmap=$(export_uri "${p}bitmap/bits")
    list
    has_export "${p}bitmap/bits"
    "$PYTHON" - "$bitmap" "$active" "$(export_uri "${p}diff/one..two")" <<'END'
import errno
import sys
from nbdtool import block_status, connect, disk_map
import nbd

bitmap, diff = connect(sys.argv[1]), connect(sys.argv[3])
writer = connect(sys.argv[2])
before = disk_map(diff)
assert bytes(bitmap.pread(1024, 512 << 10)) == b"\4" * 1024
assert disk_map(bitmap)[0] == (512 << 10, 3)
writer.pread(512, 0)
writer.flush()
assert bytes(bitmap.pread(1024, 512 << 10)) == b"\4" * 1024
writer.pwrite(b"x", 0)
for request in (lambda: bitmap.pread(512, 0),
                lambda: bitmap.pread(512, 2 << 20),
                lambda: block_status(bitmap, 4 << 20, 0)):
    try:
        request()
        raise AssertionError("it did not fail")
    except nbd.Error as error:
        assert error.errnum == errno.EIO, error
# Views that do not show the active disk go on.
assert disk_map(diff) == before
# A client that connects now is refused at once.
bitmap.shutdown()
try:
    connect(sys.argv[1])
    raise AssertionError("it was accepted")
except nbd.Error:
    pass
for handle in writer, diff:
    handle.shutdown()
END
    qemu-io -f raw -c 'write -q -P 120 0 1' "$tmp/disk.raw"
    has_logged "error: .*disk.qcow2: bitmap/bits: .*written"
    # The writer was the last one who could change it.
    nbdtool read "$bitmap" 0 1 >/dev/null
    list
    has_export "${p}bitmap/bits"
    has_export "${p}snapshot/one"
    in_the_end

    echo "$kind: lists and writers at the same time"
    fresh_image
    serve_it $kind
    uri=$active
    start_client w:0:64k:30 w:1M:1M:31
    list
    has_export "${p}snapshot/one"
    has_export "${p%/}" 'cluster size'
    check_snapshots
    finish_client
    in_the_end

    echo "$kind: many of each"
    fresh_image
    serve_it $kind
    "$PYTHON" - "$sock" "$p" "$tmp" <<'END'
import random
import sys
import threading
from exports_client import check, listing
from nbdtool import Raw, connect

socket, prefix, tmp = sys.argv[1:]
raws = {f"{prefix}snapshot/{n}": Raw(f"{tmp}/content{n}")
        for n in ("one", "two")}
raws[f"{prefix}snapshot-id/1"] = raws[f"{prefix}snapshot/one"]
disk = bytearray(open(f"{tmp}/disk.raw", "rb").read())
errors = []


def guarded(work, seed):
    try:
        work(random.Random(seed))
    except BaseException as error:
        errors.append(error)
        raise


def read(rng):
    for _ in range(12):
        name = rng.choice(list(raws))
        handle = connect(socket, name)
        check(handle, raws[name])
        handle.shutdown()
        if rng.random() < 0.3:
            assert name in dict(listing(socket)) or "-id" in name


quarters = iter(range(4))


def write(rng):
    """Each thread has a quarter of the disk."""
    first = next(quarters) << 20
    for turn in range(4):
        handle = connect(socket, prefix.rstrip("/"))
        for _ in range(25):
            length = rng.randint(1, 100000)
            at = first + rng.randrange((1 << 20) - length)
            data = bytes([rng.randrange(1, 256)]) * length
            handle.pwrite(data, at)
            disk[at:at + length] = data
        handle.shutdown()


threads = [threading.Thread(target=guarded, args=(work, seed))
           for seed, work in enumerate((read, write, read, write, read, write,
                                        write))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors, errors
open(f"{tmp}/disk.raw", "wb").write(disk)
END
    in_the_end
done

echo "a bitmap that somebody was tracking writes with"
fresh_image
qemu-io -f qcow2 -c 'write -q -P 1 0 4k' -c 'flush' -c 'sigraise 9' "$image" \
    >/dev/null 2>&1 || true
start_nbdkit -r -v --filter="$filter" file "$image"
list
has_no_export bitmap/bits
has_logged 'debug: .*bitmap "bits" is not listed: '
nbdtool fails "$(export_uri bitmap/bits)" >/dev/null
has_logged "error: .*disk.qcow2: bitmap/bits: .*in use"
nbdtool compare "$(export_uri snapshot/one)" "$tmp/contentone"
stop_nbdkit
