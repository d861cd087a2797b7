#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A header that asks for minutes of work: it ends when the client that caused
# it leaves, and when the server is told to stop; the check at the start does
# not delay clients.
# shellcheck source=luks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks.sh"

encrypt 1M "$luks"
find_header
# Slot 0: 2^26 - 501 iterations for 64 bytes; it stays active.
printf '\x03\xff\xfe\x0b' |
    dd of="$image" bs=1 seek=$((header_at + 212)) conv=notrunc status=none
echo wrong >"$secret.wrong"
start_nbdkit --filter="$filter" file "$image" \
    qcow2-passphrase=+"$secret.wrong" qcow2-check-at-start=off

# given_up TIMES: the work was abandoned that often so far.
given_up ()
{
    [ "$(grep -c 'trying the passphrase was given up' "$log")" -ge "$1" ]
}

if timeout 2 nbdinfo --size "$uri" >/dev/null 2>&1; then
    fail "it opens with the wrong passphrase"
fi
wait_for given_up 1

# stop_nbdkit fails if the server has not ended after a while.
nbdinfo --size "$uri" >/dev/null 2>&1 &
sleep 2
stop_nbdkit
wait $! || true
given_up 2 || fail "nothing was given up when the server ended"

# A client that connects after the check gets an answer: that there is no such
# export, unless it gives up first.
start_nbdkit --filter="$filter" file "$image" \
    qcow2-passphrase=+"$secret.wrong"
looked ()
{
    grep -q 'trying the passphrase takes more than' "$log"
}
wait_for looked
before=$(grep -c 'was given up' "$log")
! timeout 2 nbdinfo --size "$uri" >/dev/null 2>&1 ||
    fail "it opens with the wrong passphrase"
wait_for given_up $((before + 1))
stop_nbdkit
