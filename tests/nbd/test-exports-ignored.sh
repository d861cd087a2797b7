#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# With a plugin that ignores export names every name is the same image, opened
# once, for connections in sequence and at once.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
make_standard_image
start_nbdkit -r -v --filter="$filter" file "$tmp/disk.qcow2"
for name in "" a b/c "" %20; do
    nbdtool compare "$(export_uri "$name")" "$tmp/disk.raw" --reads 20
done
[ "$(opens)" = 1 ] || fail "opened $(opens) times"
nbdinfo "$uri" >/dev/null
[ "$(opens)" = 1 ] || fail "nbdinfo had it opened again"
stop_nbdkit

# The others connect while the first is being opened.
start_nbdkit -r -v --filter="$filter" --filter=delay \
    file "$tmp/disk.qcow2" delay-read=100ms
clients=()
for i in 1 2 3 4 5 6 7 8; do
    nbdtool size "$(export_uri "name$i")" >"$tmp/size$i" &
    clients+=($!)
done
wait "${clients[@]}"
for i in 1 2 3 4 5 6 7 8; do
    [ "$(cat "$tmp/size$i")" = 8388608 ] || fail "client $i"
done
[ "$(opens)" = 1 ] || fail "opened $(opens) times by clients at once"
