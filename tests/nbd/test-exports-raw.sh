#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Raw disks beside images in one folder: those that qcow2-raw names, and no
# others, whatever they contain.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_filter log
dir=$tmp/images
mkdir "$dir"
make_disk "$tmp/content" 3000000 65536 7
make_disk "$tmp/truth.raw" 2097152 65536 8
make_image "$dir/vm.qcow2" "$tmp/truth.raw"
make_image "$dir/odd.img" "$tmp/truth.raw"
make_image "$dir/guest.raw" "$tmp/truth.raw"
make_image "$dir/.hidden.raw" "$tmp/truth.raw"
cp "$tmp/content" "$dir/data.raw"
cp "$tmp/content" "$dir/data.img"
cp "$tmp/content" "$dir/base"

# same NAME FILE: the export's bytes are those of the file.
same ()
{
    nbdtool compare "$(export_uri "$1")" "$2" --reads 10 >"$tmp/out" 2>&1 ||
        fail "$1 is not $2: $(cat "$tmp/out")"
}

# client NAME CODE: of Python, with a handle h.
client ()
{
    "$PYTHON" - "$(export_uri "$1")" <<END
import sys
import nbd

h = nbd.NBD()
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(sys.argv[1])
$2
h.shutdown()
END
}

# refused NAME [REGEX]: the last server does not serve it, and says why.
refused ()
{
    ! nbdinfo --size "$(export_uri "$1")" >/dev/null 2>&1 ||
        fail "$1 is served"
    [ -z "${2-}" ] || grep -q -E "$2" "$log" || fail "it does not say: $2"
}

echo "by name and pattern, and nothing else"
start_nbdkit -v --filter="$filter" file dir="$dir" 'qcow2-raw=*.raw' \
    qcow2-raw=base
same data.raw "$dir/data.raw"
same base "$dir/base"
same guest.raw "$dir/guest.raw"         # although it looks like an image
same vm.qcow2 "$tmp/truth.raw"
same odd.img "$tmp/truth.raw"           # an image, and never raw
refused data.img 'not a qcow2 image.*qcow2-raw='
same .hidden.raw "$tmp/truth.raw"       # as in a shell
refused data.raw/snapshot/1 'raw disk'
refused no-such.raw
list
has_export data.raw '^raw disk$'
has_export guest.raw '^raw disk$'
has_export base '^raw disk$'
has_export vm.qcow2 '^qcow2 version 3'
has_export odd.img '^qcow2 version 3'
has_no_export data.img
nbdinfo "$(export_uri data.raw)" | grep -q 'description: raw disk' ||
    fail "a client is told something else"

echo "a guest writes the header of an image"
head -c 3000000 "$dir/odd.img" >"$tmp/evil"
client data.raw '
data = open("'"$tmp/evil"'", "rb").read()
for i in range(0, len(data), 65536):
    h.pwrite(data[i:i + 65536], i)
h.flush()'
cmp "$tmp/evil" <(head -c "$(stat -c %s "$tmp/evil")" "$dir/data.raw")
qemu-img info -f qcow2 "$dir/data.raw" >/dev/null || broken "it is no image"
same data.raw "$dir/data.raw"
stop_nbdkit
start_nbdkit -v --filter="$filter" file dir="$dir" 'qcow2-raw=*.raw'
same data.raw "$dir/data.raw"
[ "$(nbdinfo --size "$(export_uri data.raw)")" = 3000000 ] || fail "the size"
stop_nbdkit

echo "nothing stands between a raw disk and the plugin"
truncate -s 80M "$dir/straight.raw"
start_nbdkit -v --filter="$filter" --filter=log file dir="$dir" \
    'qcow2-raw=*.raw' logfile="$tmp/below.txt"
client straight.raw '
assert not h.is_read_only() and h.can_multi_conn() and h.can_fua()
h.pwrite(b"x" * 70000, 12345)
h.pwrite(b"y" * 512, 1 << 20, nbd.CMD_FLAG_FUA)
assert h.pread(70000, 12345) == b"x" * 70000
h.zero(40000, 20000, nbd.CMD_FLAG_NO_HOLE)
h.trim(65536, 1 << 20)
h.zero(70 << 20, 5 << 20)
h.flush()
assert h.pread(3, 20000) == b"\0" * 3'
client straight.raw '
found = []
def add(name, offset, entries, err):
    found.extend(entries)
h.block_status(80 << 20, 0, add)
assert sum(found[::2]) == 80 << 20, found
assert 0 in found[1::2] and found[-1] == 3, found'
for what in 'Write id=.* offset=0x3039 count=0x11170' \
    'Write id=.* offset=0x100000 count=0x200 fua=1' \
    'Zero id=.* offset=0x4e20 count=0x9c40' \
    'Trim id=.* offset=0x100000 count=0x10000' \
    'Flush id' 'Extents id'; do
    grep -q "$what" "$tmp/below.txt" || {
        cat "$tmp/below.txt" >&2
        fail "no $what"
    }
done
stop_nbdkit
{
    head -c 20000 /dev/zero | tail -c 12345
    head -c $((20000 - 12345)) /dev/zero | tr '\0' x
    head -c 40000 /dev/zero
    head -c $((12345 + 70000 - 60000)) /dev/zero | tr '\0' x
    head -c $((83886080 - 82345)) /dev/zero
} >"$tmp/expected"
cmp "$tmp/expected" "$dir/straight.raw"

echo "read-only"
start_nbdkit -r -v --filter="$filter" file dir="$dir" 'qcow2-raw=*.raw'
client straight.raw 'assert h.is_read_only()'
stop_nbdkit

echo "locks, and claims"
cp "$tmp/content" "$dir/locked.raw"
(cd "$dir" && qemu-img create -q -f qcow2 -b locked.raw -F raw top.qcow2)
start_nbdkit -v --filter="$filter" file dir="$dir" 'qcow2-raw=*.raw' \
    qcow2-follow="$dir"
"$PYTHON" - "$(export_uri locked.raw)" "$(export_uri top.qcow2)" \
    "$dir/locked.raw" <<'END'
import subprocess
import sys
import nbd

raw, top, path = sys.argv[1:]

def connect(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle

def is_refused(uri):
    try:
        connect(uri).shutdown()
        return False
    except nbd.Error:
        return True

def qemu(command):
    return subprocess.run(["qemu-io", "-f", "raw", *command, path],
                          capture_output=True).returncode == 0

one, two = connect(raw), connect(raw)
one.pwrite(b"1" * 512, 0)
assert two.pread(512, 0) == b"1" * 512
two.pwrite(b"2" * 512, 512)
assert not qemu(["-c", "write 0 512"])
assert is_refused(top)
one.shutdown()
assert is_refused(top)
two.shutdown()
above = connect(top)
assert above.pread(1024, 0) == b"1" * 512 + b"2" * 512
assert is_refused(raw)
above.shutdown()
assert qemu(["-c", "write 0 512"])
assert not is_refused(raw)
END
stop_nbdkit

echo "another program has it"
start_nbdkit -v --filter="$filter" file dir="$dir" 'qcow2-raw=*.raw'
qemu-nbd -t -k "$tmp/qemu.sock" -f raw "$dir/locked.raw" &
qemu=$!
cleanup_fn kill "$qemu"
wait_for test -S "$tmp/qemu.sock"
refused locked.raw 'locked.raw'
stop_nbdkit

echo "where it cannot mean anything"
# not_allowed REGEX PARAMETER...
not_allowed ()
{
    local regex=$1

    shift
    ! run_nbdkit -U - --filter="$filter" "$@" --run true >"$tmp/out" 2>&1 ||
        fail "accepted: $*"
    grep -q -E -e "$regex" "$tmp/out" || fail "$*: $(cat "$tmp/out")"
}
not_allowed 'qcow2-raw needs .*dir=' file "$dir/vm.qcow2" 'qcow2-raw=*'
not_allowed 'qcow2-raw needs .*dir=' memory 1M 'qcow2-raw=*'
not_allowed 'qcow2-raw must be' file dir="$dir" qcow2-raw=
not_allowed 'qcow2-raw must be' file dir="$dir" qcow2-raw=a/b
