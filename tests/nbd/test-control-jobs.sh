#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots as jobs: their progress, and what cancelling them leaves.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
requires_filter delay
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl

qemu-img create -q -f qcow2 -o cluster_size=512 "$tmp/disk" 4M
qemu-io -f qcow2 -c 'write -q -P 5 0 4M' "$tmp/disk"
start_nbdkit --filter="$filter" --filter=delay file "$tmp/disk" \
    delay-write=1ms qcow2-control="$control"
"$PYTHON" "$nbddir/control_jobs.py" "$sock" "$control" ||
    fail "jobs: $(tail -n 3 "$log")"

echo "qcow2ctl -p"
"$ctl" -p -S "$control" snapshot create "" one 2>"$tmp/said" ||
    fail "snapshot create -p: $(cat "$tmp/said")"
has '([1-9][0-9]*/100%)' "snapshot create -p"
status=0
"$ctl" -p -S "$control" snapshot create "" one 2>"$tmp/said" || status=$?
[ $status -eq 5 ] || fail "a second one of that name: status $status"
stop_nbdkit

# It takes four seconds, and must not be over when ^C comes.  What the last one
# said is not what this one says.
start_nbdkit --filter="$filter" --filter=delay file "$tmp/disk" \
    delay-write=20ms qcow2-control="$control"
rm "$tmp/said"
"$ctl" -p -S "$control" snapshot create "" two 2>"$tmp/said" &
client=$!
while ! grep -qs '%' "$tmp/said"; do sleep 0.01; done
kill -INT $client
status=0
wait $client || status=$?
[ $status -ne 0 ] || fail "^C has not ended the command"
has 'cancelled' "^C"
"$ctl" -S "$control" snapshot list "" >"$tmp/said"
has one "the list"
! grep -q two "$tmp/said" || fail "a snapshot is there that was cancelled"
stop_nbdkit

start_nbdkit --filter="$filter" --filter=delay file "$tmp/disk" \
    delay-write=1ms qcow2-control="$control"
"$ctl" -p -S "$control" snapshot delete "" one 2>"$tmp/said" ||
    fail "snapshot delete -p: $(cat "$tmp/said")"
has '([1-9][0-9]*/100%)' "snapshot delete -p"
"$ctl" -S "$control" jobs >"$tmp/said"
! grep -q qcow2ctl "$tmp/said" || fail "jobs are left: $(cat "$tmp/said")"
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check: status $?"
[ -z "$(qemu-img snapshot -l "$tmp/disk")" ] || fail "snapshots are left"
