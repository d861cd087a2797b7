#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A broken assumption costs the request that meets it, with a line in the log,
# and all further changes of that image, but no other client, nor the server.
# With QCOW2_ABORT_ON_BUGS it costs the server.  In the filter built here two
# assumptions are wrong.
# shellcheck source=planted.sh source-path=SCRIPTDIR
source "$(dirname "$0")/planted.sh"

requires_qemu
requires_libnbd
requires_plugin file
requires_program gcc
skip_if_instrumented "the filter that is built here is not"
! grep -q "^#define DEBUG_ASSERTIONS" "$top_builddir/config.h" ||
    skip "built with --enable-debug-assertions"
check_filter
M=$((1024 * 1024))
# shellcheck disable=SC2016     # What is changed is C.
build_planted "$tmp/planted" \
    read/extents.c "s/!q2_assume (!p.gap,/!q2_assume (guest_off != 2 * $M,/" \
    write/allocate.c "s/!q2_assume (nr > 0,/!q2_assume (guest_off != 5 * $M,/"
filter=$tmp/planted/nbdkit-qcow2-filter.so
mkdir "$tmp/images"
for name in a b c; do
    qemu-img create -q -f qcow2 "$tmp/images/$name" 8M
    qemu-io -f qcow2 -c 'write -q -P 1 0 1M' "$tmp/images/$name"
    # Room: only a file that is served alone can grow.
    truncate -s 32M "$tmp/images/$name"
done

check_images ()         # NAME...
{
    local name status

    for name; do
        status=0
        # Clusters allocated for a failed request may leak.
        qemu-img check -q -f qcow2 "$tmp/images/$name" >"$tmp/out" 2>&1 ||
            status=$?
        [ $status -eq 0 ] || [ $status -eq 3 ] || fail "$(cat "$tmp/out")"
        ! qemu-img info "$tmp/images/$name" | grep -q 'corrupt: true' ||
            fail "$name: a bug of ours is not the image's fault"
    done
}

echo "as it is shipped"
unset QCOW2_ABORT_ON_BUGS
start_nbdkit --filter="$filter" file dir="$tmp/images"
"$PYTHON" - "$sock" "$log" <<'END'
import errno
import sys
import nbd
from nbdtool import block_status, connect

M = 1 << 20
sock, log = sys.argv[1:]


def refused(function, *arguments):
    try:
        function(*arguments)
    except nbd.Error as error:
        assert error.errnum == errno.EIO, error
    else:
        raise AssertionError(f"{function} {arguments[1:]} is not refused")


def logged(text):
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if text in line]
    return len(lines)


def content(handle, offset, byte):
    assert handle.pread(M, offset) == bytes([byte]) * M, offset


one, other, third = (connect(sock, name) for name in "abc")
late = connect(sock, "a")
data = b"\5" * M
one.pwrite(data, 3 * M)
one.flush()

# A bug in a change.
refused(one.pwrite, data, 5 * M)
assert logged("/a: this is a bug, please report it: "
              "'guest_off != 5") == 1
for handle in one, late:
    refused(handle.pwrite, data, 0)
    refused(handle.pwrite, data, 6 * M)
    refused(handle.zero, M, 0)
    refused(handle.trim, M, 0)
    refused(handle.flush)
    content(handle, 0, 1)
    content(handle, 3 * M, 5)
assert logged("/a: nothing is written any more") >= 2
late.shutdown()

# A bug in a read.
other.pwrite(data, 3 * M)
refused(block_status, other, M, 2 * M)
assert logged("/b: this is a bug, please report it: "
              "'guest_off != 2") == 1
assert block_status(other, M, 0) == [(M, 0)]
refused(other.pwrite, data, 0)
other.flush()
content(other, 3 * M, 5)

# The server goes on, and so do requests that do not meet a bug.
third.pwrite(data, 7 * M)
third.flush()
content(third, 7 * M, 5)
for handle in one, other, third:
    handle.shutdown()
END

echo "when all clients have left and come back"
for name in a b; do
    wait_for qemu-io -r -f raw -c 'read 0 1' "$(export_uri $name)"
    "$PYTHON" - "$sock" $name <<'END'
import sys
from nbdtool import connect

M = 1 << 20
handle = connect(*sys.argv[1:])
assert handle.pread(M, 3 * M) == b"\5" * M
handle.pwrite(b"\6" * M, 4 * M)
handle.flush()
handle.shutdown()
END
done
stop_nbdkit
check_images a b c
for name in a b; do
    qemu-io -r -f qcow2 -c 'read -P 1 0 1M' -c 'read -P 5 3M 1M' \
        -c 'read -P 6 4M 1M' "$tmp/images/$name" >"$tmp/out"
    ! grep -E 'failed|rror' "$tmp/out" || fail "$name is not as it was written"
done

echo "in tests"
export QCOW2_ABORT_ON_BUGS=1
start_nbdkit --filter="$filter" file dir="$tmp/images"
"$PYTHON" - "$sock" 2>"$tmp/out" <<'END' && fail "not even an error"
import sys
from nbdtool import block_status, connect

block_status(connect(sys.argv[1], "a"), 1 << 20, 2 << 20)
END
! stop_nbdkit 2>"$tmp/out" || fail "the server did not end"
grep -q 'ended with status 134' "$tmp/out" || fail "$(cat "$tmp/out")"
grep -q 'qcow2: this is a bug, please report it' "$log" || fail "no message"
