#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The control socket beside that of qemu-storage-daemon: commands of the same
# name have answers of the same shape, and errors of the same class.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
requires_program qemu-storage-daemon

for who in ours theirs; do
    qemu-img create -q -f qcow2 "$tmp/$who.qcow2" 8M
    qemu-img bitmap --add "$tmp/$who.qcow2" b
    qemu-io -f qcow2 -c 'write -q -P 5 1M 64k' "$tmp/$who.qcow2"
done
qemu-storage-daemon \
    --blockdev "file,node-name=f,filename=$tmp/theirs.qcow2" \
    --blockdev qcow2,node-name=q,file=f \
    --chardev "socket,path=$tmp/theirs,server=on,wait=off,id=c" \
    --monitor chardev=c >"$tmp/daemon.log" 2>&1 &
daemon=$!

end_daemon ()
{
    kill "$daemon" 2>/dev/null || :
}
cleanup_fn end_daemon
wait_for [ -S "$tmp/theirs" ]

start_nbdkit --filter="$filter" file "$tmp/ours.qcow2" qcow2-control="$control"
"$PYTHON" "$nbddir/control_beside_qemu.py" "$control" "$tmp/theirs" ||
    fail "see above"
stop_nbdkit
end_daemon
wait "$daemon" || :
for who in ours theirs; do
    qemu-img check -q "$tmp/$who.qcow2" || fail "qemu-img check of $who"
done
