#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients of the active disk and of views connect and disconnect in every
# order; in between, exports are listed, images are replaced, clients are
# killed, and opening fails.  The image is opened as often as needed, and ends
# with the last client, as do its locks.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_filter delay
mkdir "$tmp/images"
image=$tmp/images/disk.qcow2
make_history "$image"
truncate -s +16M "$image"
history_content "$image" one "$tmp/one.raw"
history_content "$image" two "$tmp/two.raw"
history_content "$image" "" "$tmp/disk.raw"
cp "$image" "$tmp/first.qcow2"

# is_free: no lock is held on the image.
is_free ()
{
    local i

    for ((i = 0; i < patience * 10; i++)); do
        if qemu-io -f qcow2 -c 'read -q 0 512' -c 'flush' "$image" \
                >/dev/null 2>"$tmp/locked"; then
            return 0
        fi
        sleep 0.1
    done
    fail "the image is still locked: $(cat "$tmp/locked")"
}

for options in "-r" ""; do
    for where in file dir; do
        echo "$where= $options: every order"
        if [ "$where" = file ]; then
            p=
            set -- "$image"
        else
            p=disk.qcow2/
            set -- dir="$tmp/images"
        fi
        # shellcheck disable=SC2086
        start_nbdkit $options -v -D nbdkit.backend.datapath=0 \
            --filter="$filter" file "$@"
        exports_client orders "$sock" "${p}snapshot/two" \
            "${p%/}=$tmp/disk.raw" "${p}snapshot/one=$tmp/one.raw" \
            "${p}snapshot/two=$tmp/two.raw"
        opened=$(opens)
        # A read-only image stays open; else it ends with the last client, once
        # for each order.
        if [ -n "$options" ]; then
            [ "$opened" -eq 1 ] ||
                fail "opened $opened times"
        else
            is_free
            [ "$opened" -ge 36 ] || fail "opened $opened times"
        fi
        stop_nbdkit
        has_not_logged 'error:'
        is_free
    done
done
cmp "$image" "$tmp/first.qcow2" || fail "the image was written to"

echo "replaced by an image with other snapshots of the same names"
cp "$image" "$tmp/images/new"
qemu-img snapshot -d one "$tmp/images/new"
qemu-io -f qcow2 -c 'write -q -P 77 0 1M' "$tmp/images/new"
qemu-img snapshot -c one "$tmp/images/new"
history_content "$tmp/images/new" one "$tmp/newone.raw"
for where in file dir; do
    cp "$tmp/first.qcow2" "$image"
    if [ "$where" = file ]; then
        set -- "" "$image"
    else
        set -- disk.qcow2/ dir="$tmp/images"
    fi
    start_nbdkit -r --filter="$filter" file "$2"
    "$PYTHON" - "$sock" "$1snapshot/one" "$tmp" <<'END'
import os
import shutil
import sys
from exports_client import check
from nbdtool import Raw, connect

socket, name, tmp = sys.argv[1:]
old, new = Raw(f"{tmp}/one.raw"), Raw(f"{tmp}/newone.raw")
before = connect(socket, name)
check(before, old)
shutil.copy(f"{tmp}/images/new", f"{tmp}/images/new2")
os.rename(f"{tmp}/images/new2", f"{tmp}/images/disk.qcow2")
after = connect(socket, name)
check(after, new)
check(before, old)
before.shutdown()
again = connect(socket, name)
check(again, new)
again.shutdown()
after.shutdown()
END
    stop_nbdkit
done
cp "$tmp/first.qcow2" "$image"

echo "clients that are killed"
start_nbdkit --filter="$filter" file "$image"
"$PYTHON" - "$sock" <<'END'
import os
import signal
import sys
from nbdtool import connect

for turn in range(6):
    children = []
    for name in ("snapshot/one", "", "bitmap/bits", "snapshot/one"):
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            handle = connect(sys.argv[1], name)
            handle.pread(65536, 0)
            os.write(tell, b"x")
            signal.pause()
        assert os.read(ready, 1) == b"x"
        children.append(child)
    for child in children[turn % 4:] + children[:turn % 4]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
END
is_free
stop_nbdkit

echo "who writes leaves while another one is told that there is no such thing"
# From 1.36 on the delay filter fails writes of a connection that is ending;
# from 1.44 on nothing is written through a connection any more.
version=$("$NBDKIT" --dump-config | sed -n 's/^version=1\.\([0-9]*\).*/\1/p')
wheres="file dir"
[ "$version" -lt 36 ] || [ "$version" -ge 44 ] || wheres="file"
for where in $wheres; do
    cp "$tmp/first.qcow2" "$image"
    # This shows if the image was ended, with any client as the last.
    qemu-img amend -q -f qcow2 -o lazy_refcounts=on "$image"
    history_content "$image" "" "$tmp/disk.raw"
    if [ "$where" = file ]; then
        p=
        set -- "$image"
    else
        p=disk.qcow2/
        set -- dir="$tmp/images"
    fi
    start_nbdkit --filter="$filter" --filter=delay file "$@" delay-read=200ms
    uri=$(export_uri "${p%/}")
    start_client w:0:3M:7
    nbdtool fails "$(export_uri "${p}snapshot/none")" >/dev/null &
    loser=$!
    sleep 0.3
    finish_client
    wait $loser || fail "there is no snapshot 'none'"
    stop_nbdkit
    [ "$(od -An -tu1 -j 79 -N 1 "$image" | tr -d ' ')" = 0 ] ||
        fail "the image was not ended"
    check_image_of "$image"
done
