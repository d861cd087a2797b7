#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Power cuts of the server's file, at many moments: while it grows through one
# context after the other, when it is cut back at the end, and after a flush
# has failed.  Flushed writes survive, and QEMU finds no errors.
#
# Environment
#   SEED=N, ROUNDS=N, CUTS=N    seed of the first image, images of each kind,
#                               and power cuts of each image
# shellcheck source=powercut.sh source-path=SCRIPTDIR
source "$(dirname "$0")/powercut.sh"

: "${SEED:=1}" "${ROUNDS:=1}" "${CUTS:=16}"

# has NAME MINIMUM: the last campaign had at least so many events.
has ()
{
    local number

    number=$(sed "s/.*\b$1=\([0-9]*\).*/\1/" "$tmp/summary")
    [ "$number" -ge "$2" ] || fail "only $number of $1: $(cat "$tmp/summary")"
}

for ((; ROUNDS > 0; ROUNDS--)); do
    campaign "$SEED" cluster_size=2M 0.05 150 "$CUTS"
    has grown 2
    has cut 1
    has descriptors 3
    campaign "$SEED" cluster_size=512k,extended_l2=on,refcount_bits=64 0.02 \
        300 "$CUTS"
    has grown 2
    campaign "$SEED" cluster_size=2M,lazy_refcounts=on 0.3 120 "$CUTS" \
        --filter=noparallel serialize=requests
    has grown 2

    # Any flush fails.  The first is that of the check before the file grows,
    # if clients flush seldom.
    room=$((40 * 1024 * 1024))
    for fail_flush in 1 2 3 5 8; do
        campaign "$SEED" cluster_size=2M \
            "$([ "$fail_flush" -eq 1 ] && echo 0.01 || echo 0.1)" 120 \
            $((CUTS / 2))
        # On a busy machine several flushes of clients share one.
        [ "$fail_flush" -gt 3 ] || has failed 1
    done
    fail_flush=
    room=0
    SEED=$((SEED + 10))
done
