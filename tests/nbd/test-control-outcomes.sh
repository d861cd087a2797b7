#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What the error of a change says that failed before the image's header was
# written, at that, and behind it: for programs, and by qcow2ctl's status.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
# shellcheck source=header_faults.sh source-path=SCRIPTDIR
source "$(dirname "$0")/header_faults.sh"
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl

with_faults "$NBDKIT" faulty
mkdir "$tmp/images"
for name in a b; do
    qemu-img create -q -f qcow2 "$tmp/base.$name" 4M
    qemu-io -f qcow2 -c 'write -q -P 5 0 1M' "$tmp/base.$name"
    qemu-img snapshot -c s0 "$tmp/base.$name"
    qemu-img bitmap --add "$tmp/base.$name" b0
    qemu-io -f qcow2 -c 'write -q -P 6 0 1M' "$tmp/base.$name"
    truncate -s 8M "$tmp/base.$name"    # files of a directory do not grow
done

# begin FAULT: the images are new, and b has that fault from now on.
begin ()
{
    local fault=$1

    shift
    faults
    for name in a b; do
        cp "$tmp/base.$name" "$tmp/images/$name"
    done
    NBDKIT=$tmp/faulty start_nbdkit --filter="$filter" file \
        "${@:-$tmp/images/b}" qcow2-control="$control"
    # The first change makes the image ready for others.
    [ $# -gt 0 ] || qmp blockdev-snapshot-internal-sync,device=,name=first
    faults /images/b "$fault"
}

# begin_both FAULT: with clients, as some versions of nbdkit change only what
# those have open.
begin_both ()
{
    begin "$1" dir="$tmp/images"
    rm -f "$tmp/held"
    "$PYTHON" - "$sock" "$tmp/held" <<'END' &
import sys
import time
import nbd
held = [nbd.NBD(), nbd.NBD()]
for h, name in zip(held, "ab"):
    h.set_export_name(name)
    h.connect_unix(sys.argv[1])
open(sys.argv[2], "w").close()
time.sleep(3600)
END
    holder=$!
    cleanup_fn end_process $holder
    wait_for [ -e "$tmp/held" ]
}

end_process ()
{
    kill "$1" 2>/dev/null || :
}

# ended: whatever came of it, QEMU finds one of two whole images.
ended ()
{
    faults
    [ -z "${holder:-}" ] || { end_process "$holder"; wait "$holder" || :; }
    holder=
    stop_nbdkit
    for name in a b; do
        # Clusters may be left that nobody uses.
        status=0
        qemu-img check -q "$tmp/images/$name" >"$tmp/check" 2>&1 || status=$?
        [ $status -eq 0 ] || [ $status -eq 3 ] ||
            fail "qemu-img check of $name: $(cat "$tmp/check")"
    done
}

# outcome FAULT WANTED COMMAND: by the command, as a job too if it can be one,
# and for qcow2ctl.
outcome ()
{
    begin "$1"
    qmp "$3"
    has '"error"' "$1, $3"
    if [ "$2" = none ]; then
        ! grep -q x-q2-outcome "$tmp/said" || fail "$1, $3: $(cat "$tmp/said")"
    else
        has "\"x-q2-outcome\": \"$2\"" "$1, $3"
    fi
    ended
}

# For each the outcome if all writes fail, that of the header, and those after.
while read -r all header after command; do
    echo "$command"
    outcome all "$all" "$command"
    outcome header "$header" "$command"
    [ "$after" = - ] || outcome after "$after" "$command"
done <<'END'
none unknown -    block-dirty-bitmap-disable,node=,name=b0
none unknown -    blockdev-snapshot-internal-sync,device=,name=new
none unknown done blockdev-snapshot-delete-internal-sync,device=,name=s0
none unknown done x-q2-snapshot-apply,device=,name=s0
none unknown done x-q2-empty,device=
END

echo "a job"
begin header
qmp blockdev-snapshot-internal-sync,device=,name=new,job-id=j
for ((i = 0; i < patience * 20; i++)); do
    qmp query-jobs
    ! grep -q concluded "$tmp/said" || break
    sleep 0.05
done
qmp x-q2-query-check,id=j
has '"x-q2-outcome": "unknown"' "a job"
ended

# ctl_ends STATUS ARGUMENT...
ctl_ends ()
{
    local want=$1 status=0

    shift
    "$ctl" -S "$control" "$@" >"$tmp/said" 2>&1 || status=$?
    [ $status -eq "$want" ] ||
        fail "qcow2ctl $*: status $status: $(cat "$tmp/said")"
}

echo "qcow2ctl"
begin all
ctl_ends 1 snapshot create "" new
ended
begin header
ctl_ends 6 -p snapshot create "" new
has 'it is not known whether' "at the header"
ended
begin after
ctl_ends 6 snapshot apply "" s0
has 'but what follows has failed' "behind the header"
ended

echo "several images"
begin_both header
ctl_ends 6 checkpoint --snapshot new --add new a b
has '^qcow2ctl: a: has been changed$' "the first image"
has '^qcow2ctl: b: may have been changed$' "the second image"
ended
qemu-img snapshot -l "$tmp/images/a" | grep -qw new ||
    fail "a has no snapshot"
begin_both header
ctl_ends 6 checkpoint --snapshot new --add new b a
has '^qcow2ctl: b: may have been changed$' "the first image"
has '^qcow2ctl: a: has not been changed$' "the second image"
ended
begin_both all
ctl_ends 1 checkpoint --snapshot new --add new a b
! grep -q changed "$tmp/said" || fail "nothing was changed: $(cat "$tmp/said")"
ended
for name in a b; do
    ! qemu-img snapshot -l "$tmp/images/$name" | grep -qw new ||
        fail "$name has a snapshot"
done
