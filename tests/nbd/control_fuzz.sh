# SPDX-License-Identifier: BSD-3-Clause
# Random commands for the control socket, those that make sense and those that
# do not, beside a model of what they do.  The caller sets $runs and $count.
# shellcheck shell=bash

# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/control.sh"

for ((seed = ${SEED:-1}; seed < ${SEED:-1} + ${runs:?}; seed++)); do
    case $((seed % 3)) in
    0) options=cluster_size=64k mode=durable ;;
    1) options=cluster_size=4k,lazy_refcounts=on mode=lazy ;;
    2) options=cluster_size=512,extended_l2=off mode=durable ;;
    esac
    echo "seed $seed: $options, $mode"
    qemu-img create -q -f qcow2 -o "$options" "$tmp/disk" 1M
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-bitmaps="$mode" \
        qcow2-control="$control"
    "$PYTHON" "$nbddir/control_fuzz.py" "$sock" "$control" "$seed" \
        "${count:?}" || fail "seed $seed: $(tail -n 3 "$log")"
    stop_nbdkit
    ! grep -i 'bug' "$log" || fail "seed $seed: a bug"
    qemu-img check -q "$tmp/disk" >"$tmp/said" 2>&1 ||
        fail "seed $seed: qemu-img check: $(tail -n 3 "$tmp/said")"
done
