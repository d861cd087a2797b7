#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# -D qcow2.stats=1 logs counters when an image is closed, and they agree with
# the requests that the plugin got.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

make_real "$tmp/disk.raw" $((16 * M))
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c

read=': read (header|l1|l2|data|compressed):'
for name in plain packed; do
    for delay in 0 2ms; do
        start_remote $delay "$tmp/$name.qcow2"
        copy --connections=4
        nbdtool compare "$uri" "$tmp/disk.raw" --reads 100 --only-random
        stop_nbdkit
        echo "$name, $delay: $(requests Read) reads," \
            "$(requested_bytes) bytes"
        grep 'qcow2: stats: ' "$log" || fail "nothing is printed"
        [ "$(stat_of "$read" requests)" -eq "$(requests Read)" ] ||
            fail "$(stat_of "$read" requests) requests"
        [ "$(stat_of "$read" bytes)" -eq "$(requested_bytes)" ] ||
            fail "$(stat_of "$read" bytes) bytes"
        [ "$(stat_of tables: hits)" -gt 0 ] || fail "no L2 entry was found"
        used=$(stat_of 'read ahead' used)
        [ "$used" -le "$(stat_of 'read ahead' bytes)" ] ||
            fail "more was used than read"
        if [ $name = packed ]; then
            [ "$(stat_of decompressed bytes)" -ge $((8 * M)) ] ||
                fail "nothing was decompressed"
            [ "$(stat_of decompressed misses)" -gt 0 ] ||
                fail "no part of a cluster was read"
        else
            [ "$(stat_of decompressed bytes)" -eq 0 ] ||
                fail "something was decompressed"
        fi
        # Without delay it depends on the machine if the host is slow.
        if [ $delay = 2ms ]; then
            [ "$(stat_of 'read ahead' bytes)" -gt 0 ] ||
                fail "nothing was read ahead"
            [ "$(stat_of 'read ahead' latency)" -ge 500 ] ||
                fail "2 ms were not noticed"
        fi
    done
done

echo "nothing is printed where it is not asked for"
start_nbdkit -r -v --filter="$filter" file "$tmp/plain.qcow2"
nbdtool read "$uri" 0 65536 >/dev/null
stop_nbdkit
grep 'qcow2: stats: ' "$log" && fail "counters without the flag"
exit 0
