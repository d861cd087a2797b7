#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter's parameters: good and bad values, and parameters of others.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
make_disk "$tmp/disk.raw" $((4 * 1024 * 1024)) 4096
make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -o cluster_size=512

for size in 64K 65536 100k 1M 32M 1G; do
    start_nbdkit --filter="$filter" file "$tmp/disk.qcow2" \
        qcow2-cache-size="$size"
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 200
    stop_nbdkit
done

echo "bad values"
for key in cache-size cluster-cache-size readahead; do
    for size in 1 65535 63K -1 "" abc 1X 99999999999999999999; do
        refused "qcow2-$key must be .*'$size'" --filter="$filter" file \
            "$tmp/disk.qcow2" qcow2-$key="$size"
    done
done
refused "qcow2-cache-size must be at least" --filter="$filter" file \
    "$tmp/disk.qcow2" qcow2-cache-size=0
for key in grow lock check-at-start discard overlap-check backing-format; do
    refused "qcow2-$key must be .*'maybe'" --filter="$filter" file \
        "$tmp/disk.qcow2" qcow2-$key=maybe
done
for key in follow backing data-file; do
    refused "qcow2-$key: the value is empty" --filter="$filter" file \
        "$tmp/disk.qcow2" qcow2-$key=
done
refused "no name of a file after '\+'" --filter="$filter" file \
    "$tmp/disk.qcow2" qcow2-passphrase=+
refused "qcow2-follow: .*none: No such file" --filter="$filter" file \
    "$tmp/disk.qcow2" qcow2-follow="$tmp/none"

echo "keys that are nearly ours"
for key in qcow2-cachesize:qcow2-cache-size qcow2-lcok:qcow2-lock \
        qcow2_backing:qcow2-backing qcow2-backingfile:qcow2-backing \
        qcow2-pasphrase:qcow2-passphrase qcow2-folow:qcow2-follow; do
    refused "unknown parameter '${key%:*}'; did you mean '${key#*:}'" \
        --filter="$filter" file "$tmp/disk.qcow2" "${key%:*}=1"
done
refused "unknown parameter 'qcow2-nonsense'; 'nbdkit --help --filter=qcow2" \
    --filter="$filter" file "$tmp/disk.qcow2" qcow2-nonsense=1
refused "unknown parameter 'qcow2-x{100}'" --filter="$filter" \
    file "$tmp/disk.qcow2" "qcow2-$(printf 'x%.0s' {1..100})=1"

echo "once is enough"
for parameter in cache-size=1M cluster-cache-size=1M readahead=1M grow=off \
        lock=off check-at-start=on discard=ignore overlap-check=all \
        follow="$tmp" data-file="$tmp/data"; do
    refused "qcow2-${parameter%%=*} can be given only once" \
        --filter="$filter" file "$tmp/disk.qcow2" "qcow2-$parameter" \
        "qcow2-$parameter"
done

echo "what the image has no use for"
echo secret >"$tmp/secret"
start_nbdkit --filter="$filter" file "$tmp/disk.qcow2" \
    qcow2-passphrase=+"$tmp/secret" qcow2-check-at-start=off
nbdtool fails "$uri" >/dev/null
grep -q 'neither the image nor a backing file is encrypted, but qcow2-passphrase' \
    "$log" || fail "no reason: $(cat "$log")"
stop_nbdkit

echo "keys that are not ours are the plugin's business"
refused "no-such-key" --filter="$filter" file "$tmp/disk.qcow2" no-such-key=1
refused "file|dir" --filter="$filter" file

echo "help"
run_nbdkit --help --filter="$filter" null >"$tmp/help"
grep -q '^qcow2-cache-size=' "$tmp/help" || fail "--help has no parameters"

echo "debug flag"
start_nbdkit -v -D qcow2.io=1 --filter="$filter" file "$tmp/disk.qcow2" \
    qcow2-readahead=0
nbdtool read "$uri" 0 4096 | cmp -n 4096 - "$tmp/disk.raw"
for class in header l1 l2 data; do
    grep -q "qcow2: below: read $class " "$log" || fail "-D qcow2.io: $class"
done
