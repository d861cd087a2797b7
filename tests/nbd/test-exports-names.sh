#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Unusual names of snapshots, or names that no export can have: all can be
# reached, by name or by id, and each listed name leads to its snapshot.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_program jq
mkdir "$tmp/images"
cat >"$tmp/names.py" <<'END'
"""Names, ids, and which of these the list must have: "name", "id", None."""
import sys
from qsnap import Snapshots

NAMES = [
    (b"plain", b"1", "name"),
    (b"with a space", b"2", "name"),
    (b"a/b/c", b"3", "name"),
    (b"/", b"4", "name"),
    (b"snapshot/x", b"5", "name"),
    (b"diff/plain..a", b"6", "name"),
    (b"100%?#&=\"'\\", b"7", "name"),
    ("\u00fcn\u00efc\u00f6d\u00e9 \U0001f4be".encode(), b"8", "name"),
    (b"plain", b"9", "id"),                     # again
    (b"1", b"10", "name"),                      # like an id
    (b"", b"11", "id"),
    (b"nul\0byte", b"12", "id"),
    (b"new\nline", b"13", "id"),
    (b"\x1b[31mred", b"14", "id"),
    (b"latin1 \xe4", b"15", "id"),
    (b"x" * 4087, b"16", None),                 # see below
    (b"y" * 4088, b"17", "id"),
    (b"z" * 65535, b"18", "id"),
    (b"unreachable\n", b"", None),
    (b"unreachable\t", b"i\0d", None),
    (b"named", b"i\0d", "name"),
    (b"same id", b"1", "name"),
    (b"same id", b"2", None),
    (b"id like a name", b"plain", "name"),
    (b"\xff", b"a/b", "id"),
    (b"..", b"25", "name"),
    (b"p", b"26", "name"),
    (b"p..q", b"27", "name"),
    (b"q..r", b"28", "name"),
    (b"r", b"29", "name"),
]


def make(path: str) -> list:
    image = Snapshots(1 << 20)
    for number, (name, ident, _) in enumerate(NAMES):
        image.write(number, name[:50] + b" was here")
        image.snapshot(name, ident)
    image.save(path)
    return [image.content(number) for number in range(len(NAMES))]


def first(field: int, value: bytes) -> int:
    return next(i for i, entry in enumerate(NAMES) if entry[field] == value)


def expected(prefix: str) -> dict:
    """Export name: number of the snapshot that it must be."""
    longest = 4096 - len(prefix) - len("snapshot/")
    found = {}
    for number, (name, ident, how) in enumerate(NAMES):
        if name == b"x" * 4087:
            how = "name" if len(name) <= longest else "id"
        if how == "name":
            found[f"{prefix}snapshot/{name.decode()}"] = number
        elif how == "id":
            found[f"{prefix}snapshot-id/{ident.decode()}"] = number
    return found


if __name__ == "__main__":
    make(sys.argv[1])
END
cat >"$tmp/check.py" <<'END'
import sys
from exports_client import content, listing
from names import NAMES, expected, first, make
from nbdtool import connect
import nbd

socket, base, path = sys.argv[1:]
contents = make(path)
prefix = base + "/" if base else ""
listed = dict(listing(socket))
wanted = expected(prefix)
assert len(listed) == len(listing(socket))
assert set(listed) == set(wanted) | {base}, set(listed) ^ set(wanted)
for name, number in wanted.items():
    handle = connect(socket, name)
    assert content(handle) == contents[number], name
    handle.shutdown()
    if name.startswith(prefix + "snapshot-id/"):
        assert listed[name].startswith('snapshot "'), listed[name]
assert listed[prefix + "snapshot-id/12"].startswith('snapshot "nul\\x00byte"')
assert listed[prefix + "snapshot-id/18"].startswith('snapshot "zzz')

# Not listed, but it can be used.
for name, number in (("new\nline", 12), ("\x1b[31mred", 13)):
    handle = connect(socket, f"{prefix}snapshot/{name}")
    assert content(handle) == contents[number], name
    handle.shutdown()
for ident in {entry[1] for entry in NAMES if entry[1] and b"\0" not in
              entry[1]}:
    handle = connect(socket, f"{prefix}snapshot-id/{ident.decode()}")
    assert content(handle) == contents[first(1, ident)], ident
    handle.shutdown()

# Unknown and ambiguous names.
for name, works in (("snapshot/nul", False), ("diff/plain..", True),
                    ("diff/..", True), ("diff/plain....", True),
                    ("diff/plain", False), ("diff/p..q..r", False)):
    try:
        connect(socket, prefix + name).shutdown()
        assert works, name
    except nbd.Error:
        assert not works, name
END
export PYTHONPATH=$PYTHONPATH:$tmp
"$PYTHON" "$tmp/names.py" "$tmp/images/disk.qcow2"

start_nbdkit -r -v --filter="$filter" file "$tmp/images/disk.qcow2"
"$PYTHON" "$tmp/check.py" "$sock" "" "$tmp/other.qcow2"
stop_nbdkit
# (Later releases of nbdkit escape backslashes.)
has_logged 'debug: .*snapshot "unreachable.+x0a" is not listed'
# A name in the log stays in one line, without control characters.
has_logged 'snapshot/.+x1b.31mred: opened'
start_nbdkit -r --filter="$filter" file dir="$tmp/images"
"$PYTHON" "$tmp/check.py" "$sock" disk.qcow2 "$tmp/other.qcow2"
stop_nbdkit

echo "bitmaps"
qemu-img create -q -f qcow2 "$tmp/bitmaps.qcow2" 1M
long=$(printf 'b%.0s' {1..1023})
for i in plain "a b/c" "ü" "$long" diff/a..b; do
    qemu-img bitmap --add "$tmp/bitmaps.qcow2" "$i"
done
start_nbdkit -r --filter="$filter" file "$tmp/bitmaps.qcow2"
list
counts 6
for i in plain "a b/c" "ü" "$long" diff/a..b; do
    has_export "bitmap/$i" '^bitmap, '
done
exports_client sizes "$sock" >"$tmp/sizes"
[ "$(wc -l <"$tmp/sizes")" -eq 6 ] || fail "not all could be opened"
stop_nbdkit

echo "a plugin of which it is not known what names mean"
if "$NBDKIT" --dump-plugin eval >/dev/null 2>&1 && [ -z "$instrumented" ]; then
    mkdir -p "$tmp/tree/snapshot"
    make_history "$tmp/tree/a.qcow2"
    make_history "$tmp/tree/snapshot/one"
    history_content "$tmp/tree/a.qcow2" one "$tmp/one.raw"
    history_content "$tmp/tree/a.qcow2" "" "$tmp/now.raw"
    # shellcheck disable=SC2016     # For the plugin's shell.
    start_nbdkit -r -v --filter="$filter" eval \
        list_exports='printf "NAMES\na.qcow2\nsnapshot/one\nnone/bitmap/x\n"' \
        open='echo "$3"; [ -f '"$tmp/tree"'/"$3" ]' \
        get_size="stat -c %s '$tmp/tree/'\"\$2\"" \
        pread="dd if='$tmp/tree/'\"\$2\" iflag=count_bytes,skip_bytes skip=\$4 count=\$3 status=none"
    nbdtool compare "$(export_uri a.qcow2)" "$tmp/now.raw" --reads 2
    nbdtool compare "$(export_uri a.qcow2/snapshot/one)" "$tmp/one.raw" \
        --reads 2
    # A name that looks like that of a view always means the view.
    nbdtool fails "$(export_uri snapshot/one)" >/dev/null
    list
    has_export a.qcow2
    has_no_export snapshot/one
    has_no_export none/bitmap/x
    stop_nbdkit
fi
