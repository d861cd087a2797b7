#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2ctl and qemu-img say the same of images of all kinds, and create the
# same; see compare.py.  test-ctl-qemu-long.sh takes all images that there are.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
has_json || skip "qcow2ctl was built without jansson"

names=(cs-512 v2-cs-64k cs-2M rb-1 rb-64 zlib-4k zstd-64k v1-plain
       v1-compressed v2-compressed v3-many-l2 v3-rewritten-compressed
       extl2-scattered extl2-64k-zstd prealloc-metadata
       prealloc-metadata-extl2 prealloc-full zero-alloc discard empty
       snapshots snapshots-shrunk bitmaps bitmaps-disabled bitmaps-in-use
       lazy-refcounts dirty corrupt-bit compat-bits unknown-extensions
       v2-unknown-extension hdr104 size-0 size-512 huge-64T huge-1P-extl2
       eof-mid-cluster eof-mid-l2 eof-before-l1 v1-eof-mid-cluster)
hostile=(bad-magic bad-version4 v1-l1-max)
if [ -n "${ALL:-}" ]; then
    # Sizes that are no multiple of 512 are QEMU's business to round.
    mapfile -t names < <("$PYTHON" "$lib/matrix.py" list |
                             grep -vE '^(odd-|mix|eof-before-data)')
    mapfile -t hostile < <("$PYTHON" "$lib/hostile.py" list)
else
    # A few of the hostile ones, others with another seed.
    mapfile -t hostile < <("$PYTHON" "$lib/hostile.py" list |
                               awk -v seed="${SEED:-1}" \
                                   'NR % 12 == seed % 12')
fi

mkdir "$tmp/images" "$tmp/hostile"
"$PYTHON" "$lib/matrix.py" make "${names[@]}" "$tmp/images" > /dev/null
cd "$tmp/images"
for command in info check map measure; do
    "$PYTHON" "$toolsdir/compare.py" "$ctl" $command "${names[@]/%/.qcow2}"
done
cd "$tmp/hostile"
"$PYTHON" "$lib/hostile.py" make "${hostile[@]}" "$tmp/hostile" > /dev/null
"$PYTHON" "$toolsdir/compare.py" "$ctl" hostile "${hostile[@]/%/.qcow2}"
"$PYTHON" "$toolsdir/compare.py" "$ctl" create "$tmp/created"
