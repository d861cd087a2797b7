# SPDX-License-Identifier: BSD-3-Clause
# control_kill_bitmaps.sh - the server is killed in the middle of checkpoints
# of two images, while a client writes; sourced with $rounds set.
# shellcheck shell=bash
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/control.sh"
skip_if_instrumented "the server is killed"

client=$nbddir/control_bitmaps.py
mkdir "$tmp/dir"

# kill_round SEED OPTIONS
kill_round ()
{
    local seed=$1 options=$2 name status=0

    for name in a b; do
        qemu-img create -q -f qcow2 -o "$options" "$tmp/dir/$name" 8M
        truncate -s 64M "$tmp/dir/$name"
    done
    start_nbdkit --filter="$filter" file dir="$tmp/dir" \
        qcow2-control="$control" qcow2-bitmaps=lazy
    "$PYTHON" "$client" kill "$sock" "$control" "$seed" "$pid" "$tmp/known" ||
        fail "seed $seed, $options: the client"
    # It was killed, and has left its socket behind.
    wait "${server_pid[nbdkit]}" || status=$?
    [ $status -eq 137 ] || fail "seed $seed, $options: status $status"
    unset "server_pid[nbdkit]"
    servers=()
    "$PYTHON" "$client" killed "$tmp/known" "$tmp/dir/a" "$tmp/dir/b" ||
        fail "seed $seed, $options: what is left"
    for name in a b; do
        status=0
        qemu-img check -q -r all "$tmp/dir/$name" >"$tmp/repair" 2>&1 ||
            status=$?
        [ $status -eq 0 ] || fail "seed $seed, $options: qemu-img check -r" \
            "all: status $status, $(tail -n 5 "$tmp/repair")"
        qemu-img check -q "$tmp/dir/$name" || fail "seed $seed: check: $?"
    done
}

for options in cluster_size=64k cluster_size=4k; do
    for ((seed = 1; seed <= ${rounds:?}; seed++)); do
        kill_round "$seed" "$options"
    done
    echo "$options: $rounds rounds"
done
