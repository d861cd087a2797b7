#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# ^C while rebase and commit copy: they end soon, say so, and both the image and
# what it stands on are sound; the disk is what it was, and the same command
# then does it.  Each first signal must find the copying under way.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
requires_plugin file
requires_filter delay

cd "$tmp"
qemu-img create -q -f raw base 48M
qemu-io -f raw -c 'write -q -P 1 0 48M' base
qemu-img create -q -f qcow2 -b base -F raw top 48M
qemu-io -f qcow2 -c 'write -q -P 2 1M 32M' -c 'write -q -z 40M 1M' top
qemu-img convert -O raw top want

# interrupt ARGUMENT...: once the file $grows is larger than it is now, or, if
# it cannot become that, differs from base.before.  It ends with $expected.
interrupt ()
{
    local pid changed=

    "$ctl" "$@" > "$out" 2> "$err" < /dev/null &
    pid=$!
    cleanup_fn end_process "$pid"
    for _ in $(seq 1200); do
        under_way && { changed=yes; break; }
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.05
    done
    [ -n "$changed" ] || { cat "$err"; fail "$*: nothing was copied"; }
    kill -INT "$pid" 2> /dev/null || fail "$*: it has ended already"
    code=0
    wait "$pid" || code=$?
    [ "$code" -eq "$expected" ] || { cat "$err"; fail "$* has ended with $code"; }
    grep -q 'cancelled; the image' "$err" ||
        { cat "$err"; fail "$* does not say that it was cancelled"; }
}

# Each read or write of the base takes a while.
start_nbdkit --filter=delay file base rdelay=150ms wdelay=150ms

size=$(stat -c %s top)
under_way () { [ "$(stat -c %s top)" -gt "$size" ]; }
cp top saved
expected=1 interrupt rebase --backing "$uri" -b '' top
qemu-img check -q top || fail "qemu-img check after ^C of a rebase"
qemu-img compare -q -F raw top want || fail "^C of a rebase: the disk"
qemu-img info top | grep -q '^backing file: base' ||
    fail "^C of a rebase: it has another backing file"
works rebase --backing "$uri" -b '' top
qemu-img check -q top || fail "qemu-img check after a rebase"
qemu-img compare -q -F raw top want || fail "a rebase: the disk"

cp saved top
cp base base.before
under_way () { ! cmp -s base base.before; }
expected=6 interrupt commit --no-lock --backing "$uri" top
cmp -s base base.before && fail "nothing has been committed"
qemu-img check -q top || fail "qemu-img check after ^C of a commit"
qemu-img compare -q -F raw top want || fail "^C of a commit: the disk"
works -q commit --no-lock --backing "$uri" top
qemu-img check -q top || fail "qemu-img check after a commit"
qemu-img compare -q -F raw top want || fail "a commit: the disk"
stop_nbdkit
qemu-img compare -q -f raw -F raw base want || fail "a commit: the base"
