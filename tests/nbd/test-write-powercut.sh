#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The power of the file that the server writes to is cut, at many moments while
# it grows, through one context after the other, and is cut back at the end;
# also after a flush has failed.  What was flushed is there, and QEMU finds no
# error in what is left behind.
#
# Environment
#   SEED=N, ROUNDS=N, CUTS=N    of the first image, how many of each, and
#                               how many power cuts of each
# shellcheck source=powercut.sh source-path=SCRIPTDIR
source "$(dirname "$0")/powercut.sh"

: "${SEED:=1}" "${ROUNDS:=1}" "${CUTS:=16}"

# has NAME MINIMUM: of what the last campaign had in it.
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

    # Any of them fails.  That of the proof before the file grows is the first,
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
