#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Mapping a sparse disk of 1 TiB takes one request per L2 table, and fewer
# where the tables lie side by side.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

# check ORDER MOST
check ()
{
    remote_images tables "$tmp/$1.qcow2" 2048 "$1" >"$tmp/$1.map"
    start_remote 2ms "$tmp/$1.qcow2"
    nbdtool map "$uri" >"$tmp/map"
    diff -q "$tmp/$1.map" "$tmp/map" || fail "$1: the map is wrong"
    echo "$1: $(requests Read) requests"
    at_most "$2" Read "$1"
    # Tables and the head, but no data.
    bytes_at_most $((2048 * 65536 + 2 * M)) "$1"
    stop_nbdkit
}

check scattered 2100
check adjacent $((2100 / 4))

echo "with room for all tables the second map takes next to none"
start_remote 2ms "$tmp/adjacent.qcow2" qcow2-cache-size=256M
nbdtool map "$uri" >"$tmp/map"
forget
nbdtool map "$uri" >"$tmp/map"
# The cache's shards are not all equally full.
at_most 40 Read "the second map"
stop_nbdkit

echo "a map does not push out what readers use"
start_remote 2ms "$tmp/scattered.qcow2" qcow2-cache-size=1M \
    qcow2-readahead=0
for _ in 1 2; do
    nbdtool read "$uri" $((7 * 512 * M)) 512 >/dev/null
    nbdtool read "$uri" $((9 * 512 * M)) 512 >/dev/null
done
nbdtool map "$uri" >"$tmp/map"
diff -q "$tmp/scattered.map" "$tmp/map" || fail "a cache of 1 MiB: wrong map"
forget
nbdtool read "$uri" $((7 * 512 * M)) 512 >/dev/null
nbdtool read "$uri" $((9 * 512 * M)) 512 >/dev/null
at_most 2 Read "two reads after the map, without their L2 tables"
