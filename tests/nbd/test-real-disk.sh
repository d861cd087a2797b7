#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A real disk: a file system with over 300 MB of programs, libraries and texts,
# plain and compressed.  Making it takes a while, so it is kept, in
# tests/real-disk of the build (removed by make distclean).
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
PATH=$PATH:/sbin:/usr/sbin
requires_program mke2fs e2fsck

cache=$top_builddir/tests/real-disk

# Copies folders of this system until there is enough data.
make_tree ()
{
    local tree=$1 dir

    mkdir -p "$tree"
    for dir in /usr/sbin /usr/lib/systemd /usr/share/perl /usr/lib/gcc \
            /usr/share/zoneinfo /usr/include /usr/lib/python3 /usr/bin \
            /usr/share /usr/lib; do
        [ -d "$dir" ] || continue
        mkdir -p "$tree$dir"
        # Skip files that we may not read.
        cp -a "$dir/." "$tree$dir" 2>/dev/null || true
        [ "$(du -sm "$tree" | cut -f1)" -le 320 ] || return 0
    done
    skip "fewer than 320 MB of files in /usr"
}

make_disks ()
{
    local new=$cache.new megabytes

    rm -rf "$new"
    mkdir -p "$new"
    cleanup_fn rm -rf "$new"
    make_tree "$new/tree"
    megabytes=$(du -sm "$new/tree" | cut -f1)
    truncate -s $((megabytes * 5 / 4 + 64))M "$new/disk.raw"
    mke2fs -q -t ext4 -d "$new/tree" "$new/disk.raw"
    rm -rf "$new/tree"
    qemu-img convert -f raw -O qcow2 "$new/disk.raw" "$new/plain.qcow2"
    qemu-img convert -f raw -O qcow2 -c -m 8 "$new/disk.raw" \
        "$new/zlib.qcow2"
    qemu-img convert -f raw -O qcow2 -c -m 8 -o compression_type=zstd \
        "$new/disk.raw" "$new/zstd.qcow2"
    rm -rf "$cache"
    mv "$new" "$cache"
}

[ -e "$cache/zstd.qcow2" ] || make_disks
for name in plain zlib zstd; do
    echo "$name: $(du -m "$cache/$name.qcow2" | cut -f1) MB"
    start_nbdkit --filter="$filter" file "$cache/$name.qcow2"
    qemu-img compare -q -f raw -F raw "$cache/disk.raw" "$uri"
    nbdtool compare "$uri" "$cache/disk.raw" --only-random --reads 2000
    if [ "$name" = zstd ]; then
        # As a client would do it: in parallel, skipping holes.
        nbdcopy "$uri" "$tmp/copy.raw"
        cmp "$cache/disk.raw" "$tmp/copy.raw"
        e2fsck -f -n "$tmp/copy.raw"
    fi
    stop_nbdkit
done
