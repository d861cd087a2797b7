# SPDX-License-Identifier: BSD-3-Clause
# control_kill.sh - the server is killed while snapshots are taken and deleted,
# and clients write; sourced with $rounds set.
# shellcheck shell=bash
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/control.sh"
requires_program jq
skip_if_instrumented "the server is killed"

# kill_round SEED OPTIONS
kill_round ()
{
    local seed=$1 options=$2 name status=0

    cp --sparse=always "$tmp/template-$options" "$tmp/disk"
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control"
    "$PYTHON" "$nbddir/control_writers.py" kill "$sock" "$control" "$seed" \
        "$pid" "$tmp" || fail "seed $seed, $options: the client"
    # It was killed, and has left its socket behind.
    wait "${server_pid[nbdkit]}" || status=$?
    [ $status -eq 137 ] || fail "seed $seed, $options: status $status"
    unset "server_pid[nbdkit]"
    servers=()
    cp --sparse=always "$tmp/disk" "$tmp/disk.qemu"

    # Once with our repair, which begins with the first change, once with
    # QEMU's.
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control"
    qmp blockdev-snapshot-internal-sync,device=,name=after \
        x-q2-query-snapshots,device=
    has '"return": {}' "seed $seed, $options: a snapshot afterwards"
    stop_nbdkit
    qemu-img check -q -r all "$tmp/disk.qemu" >"$tmp/repair" 2>&1 ||
        fail "seed $seed, $options: qemu-img check -r all: status $?"
    for image in disk disk.qemu; do
        status=0
        qemu-img check "$tmp/$image" >"$tmp/checked" 2>&1 || status=$?
        # Leaks are what a crash may leave where no repair was necessary.
        [ $status -eq 0 ] || { [ $status -eq 3 ] && [ $image = disk ]; } ||
            fail "seed $seed, $options: $image: $(tail -n 5 "$tmp/checked")"
        qemu-img info --output=json "$tmp/$image" |
            jq -r '.snapshots // [] | .[].name' >"$tmp/names"
        for name in $(jq -r '.must[]' "$tmp/known"); do
            grep -qx "$name" "$tmp/names" ||
                fail "seed $seed, $options: $image: $name is lost"
        done
        while read -r name; do
            [ "$name" != after ] || continue
            jq -e --arg name "$name" 'has ($name)' "$tmp/known" >/dev/null ||
                fail "seed $seed, $options: $image: $name was deleted"
            qemu-img convert -f qcow2 -O raw -l "snapshot.name=$name" \
                "$tmp/$image" "$tmp/raw"
            "$PYTHON" "$nbddir/control_writers.py" check "$tmp" "$tmp/raw" \
                "$name" || fail "seed $seed, $options: $image: $name"
        done <"$tmp/names"
        qemu-img convert -f qcow2 -O raw "$tmp/$image" "$tmp/raw"
        "$PYTHON" "$nbddir/control_writers.py" check "$tmp" "$tmp/raw" "" ||
            fail "seed $seed, $options: $image: the disk"
    done
}

for options in cluster_size=64k cluster_size=4k cluster_size=512,compat=0.10
do
    qemu-img create -q -f qcow2 -o "$options" "$tmp/template-$options" 16M
    qemu-io -f qcow2 -c 'write -q -P 1 0 512k' -c 'write -q -z 0 512k' \
        -c 'write -q -P 1 1M 8M' "$tmp/template-$options"
    for ((seed = 1; seed <= ${rounds:?}; seed++)); do
        kill_round "$seed" "$options"
    done
    echo "$options: $rounds rounds"
done
