# SPDX-License-Identifier: BSD-3-Clause
# control_kill_alone.sh - the server is killed while a command changes an image
# that it has for itself; sourced with $rounds set.
# shellcheck shell=bash
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/control.sh"
requires_program jq
requires_filter delay
skip_if_instrumented "the server is killed"
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl

# kill_round SEED VERB
kill_round ()
{
    local seed=$1 verb=$2 status=0 bits=$tmp/bits

    cp --sparse=always "$tmp/template" "$tmp/disk"
    start_nbdkit --filter="$filter" --filter=delay file "$tmp/disk" \
        delay-write=3ms qcow2-control="$control"
    "$PYTHON" "$nbddir/control_alone_kill.py" run "$sock" "$control" "$seed" \
        "$pid" "$verb" "$tmp" || fail "seed $seed, $verb: the client"
    wait "${server_pid[nbdkit]}" 2>/dev/null || status=$?
    [ $status -eq 137 ] || fail "seed $seed, $verb: status $status"
    unset "server_pid[nbdkit]"
    servers=()
    # What is left is read, then repaired by the next change.
    "$ctl" --output json map --bitmap b "$tmp/disk" >"$bits" 2>"$tmp/said" ||
        bits=none
    # Emptying leaves it in use, and says so.
    [ "$verb" = empty ] || [ "$bits" != none ] ||
        fail "seed $seed, $verb: the bitmap is lost: $(cat "$tmp/said")"
    [ "$verb" != empty ] || bits=none
    "$ctl" bitmap add "$tmp/disk" next || fail "seed $seed, $verb: a change"
    qemu-img check "$tmp/disk" >"$tmp/checked" 2>&1 || status=$?
    [ $status -eq 137 ] || [ $status -eq 3 ] ||
        fail "seed $seed, $verb: $(tail -n 5 "$tmp/checked")"
    qemu-img convert -f qcow2 -O raw "$tmp/disk" "$tmp/raw"
    "$PYTHON" "$nbddir/control_alone_kill.py" judge "$tmp" "$tmp/raw" "$bits" \
        >>"$tmp/judged-$verb" || fail "seed $seed, $verb"
    qemu-img convert -f qcow2 -O raw -l snapshot.name=s0 "$tmp/disk" "$tmp/raw"
    # QEMU shows no more of it than the disk has.
    cmp -n "$(stat -c %s "$tmp/raw")" "$tmp/raw" "$tmp/target" || fail "seed $seed, $verb: the snapshot"
}

qemu-img create -q -f qcow2 -o cluster_size=4k "$tmp/template" 8M
qemu-io -f qcow2 -c 'write -q -P 1 0 3M' "$tmp/template"
qemu-img snapshot -c s0 "$tmp/template"
qemu-img convert -f qcow2 -O raw "$tmp/template" "$tmp/target"
qemu-io -f qcow2 -c 'write -q -P 2 1M 5M' "$tmp/template"
qemu-img convert -f qcow2 -O raw "$tmp/template" "$tmp/first"
qemu-img bitmap --add -g 64k "$tmp/template" b
for verb in apply shrink empty; do
    for ((seed = 1; seed <= ${rounds:?}; seed++)); do
        kill_round "$seed" $verb
    done
    echo "$verb: $(sort "$tmp/judged-$verb" | uniq -c | tr -s ' \n' ' ')"
done
