#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The server is killed, again and again, while clients write to a disk with
# enabled bitmaps, and snapshots are taken.  Each time QEMU finds bitmaps that
# are not in use, and have all that was written.  After a clean end they are
# exact.
#
# Environment
#   ROUNDS=N     for each kind of image
#   KINDS="LAYOUT:OPTIONS..."    instead of all
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"

skip_if_instrumented "the server is killed"

: "${ROUNDS:=20}" "${KINDS:=}"
disk_size=$((48 * 1024 * 1024 + 5 * 512))
state=$tmp/state
names=(g512 g65536 g1048576 g16777216)

bitmaps_kill ()
{
    "$PYTHON" "$nbddir/bitmaps_kill.py" "$@"
}

# judge WHAT [--exact]: as QEMU sees it.
judge ()
{
    local what=$1 status=0 name
    local -a opened programs=(qemu-nbd -r)

    shift
    in_qemu "$image"
    qemu-img check "${opened[@]}" >"$tmp/check" 2>&1 || status=$?
    # With lazy refcounts, and in the middle of a snapshot, it says that it is
    # to be repaired by who writes next.
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
        qemu-img info "$image" | grep -q 'cleanly shut down: no' ||
        fail "$kind: $what: qemu-img check: $(tail -n 5 "$tmp/check")"
    for name in "${names[@]}"; do
        programs+=(-B "$name")
    done
    bitmaps_kill judge "$state" "$tmp/before.raw" "$@" \
        --names "${names[@]}" -- "${programs[@]}" "${opened[@]}" ||
        fail "$kind: $what"
}

qemu_writes ()          # ROUND
{
    local -a opened
    local offset=$((RANDOM % 1000 * 40 * 1024)) length=$((RANDOM + 1))

    in_qemu "$image"
    qemu-io "${opened[@]}" -c "write -q -P $(($1 % 250 + 1)) $offset $length" \
        >"$tmp/qemu-io" 2>&1 || fail "$kind: $(tail -n 5 "$tmp/qemu-io")"
    bitmaps_kill note "$state" "$offset" "$length"
}

one_round ()            # ROUND
{
    local -a how=()

    rm -f "$control"
    start_nbdkit --filter="$filter" file "$image" qcow2-bitmaps=durable \
        qcow2-control="$control" "${parameters[@]}" "${extra[@]}"
    [ $(($1 % 4)) -eq 3 ] || how=(--kill "$pid")
    [ $(($1 % 3)) -ne 1 ] || how+=(--control "$control")
    bitmaps_kill write "$state" "$uri" --seed "$((seed + $1))" \
        --connections "$((RANDOM % 4 + 1))" "${how[@]}" ||
        fail "$kind: round $1: a request fails"
    if [ "${how[0]:-}" != --kill ]; then
        stop_nbdkit
        judge "round $1" --exact
    else
        # Perhaps all was done before.
        kill -KILL "$pid" 2>/dev/null || :
        if stop_nbdkit 2>/dev/null; then
            fail "the server was not killed"
        fi
        judge "round $1"
    fi
    [ $(($1 % 5)) -ne 2 ] || { qemu_writes "$1"; judge "QEMU, round $1"; }
}

add_bitmaps ()
{
    local -a opened
    local name

    in_qemu "$image"
    for name in "${names[@]}"; do
        if [ -z "$qemu_options" ]; then
            qemu-img bitmap --add -g "${name#g}" "$image" "$name"
        else
            qemu-img bitmap "${qemu_secrets[@]}" --image-opts --add \
                -g "${name#g}" "${opened[-1]}" "$name"
        fi
    done
    in_qemu "$image"
    qemu-img convert "${opened[@]}" -O raw "$tmp/before.raw"
    rm -f "$state"
}

# shellcheck disable=SC2054     # They are options of qemu-img.
kinds=(full:cluster_size=64k empty:cluster_size=4k,lazy_refcounts=on
    full:cluster_size=512 half_compressed:cluster_size=64k
    empty:cluster_size=2M full:cluster_size=64k,extended_l2=on
    data:cluster_size=64k data_raw:cluster_size=64k luks:cluster_size=64k
    snapshots:cluster_size=4k compress:cluster_size=64k)
# shellcheck disable=SC2206     # Split on purpose.
[ -z "$KINDS" ] || kinds=($KINDS)
seed=${SEED:-$((RANDOM * 1000))}
for kind in "${kinds[@]}"; do
    echo "$kind, seed $seed"
    extra=()
    layout=${kind%%:*}
    if [ "$layout" = compress ]; then
        extra=(qcow2-compress=on)
        layout=empty
    fi
    "make_$layout" "${kind#*:}"
    add_bitmaps
    for ((round = 1; round <= ROUNDS; ++round)); do
        one_round "$round"
    done
done
