#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A corrupt entry in a backing image: requests that need it fail, and name the
# file.  The overlay is not damaged, and other requests succeed.
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

# break_entry FILE GUEST-CLUSTER: its L2 entry gets an unaligned offset.
break_entry ()
{
    "$PYTHON" - "$1" "$2" <<'END'
import os
import sys
import qfmt
from build import Build
path, index = sys.argv[1], int(sys.argv[2])
image = Build(os.path.dirname(path), os.path.basename(path)[:-len(".qcow2")])
entry = image.l2_offset() + 8 * index
image.poke64(entry, qfmt.COPIED | 0x50200)
END
}

# broken KIND LAYER WHAT: break guest cluster 32, at 2M, of that layer.
broken ()
{
    local base=$tmp/lower-$2.qcow2

    echo "$3"
    "make_$1" cluster_size=64k
    break_entry "$base" 32
    sha256sum "${lower[@]}" >"$tmp/lower-sums"
    serve_file
    # Some sectors of it, the whole cluster, and other clusters.
    writetool "$uri" --raw "$raw" w:5M:1M:1 "!EIO:w:2100k:512:2" \
        "!EIO:w:2000k:64k:3" f w:6M:100:4 w:4M:70000:5
    nbdtool fails "$uri" $((2100 * 1024)) 512 >/dev/null
    has_logged "error: .*: in the backing file: .*is corrupt"
    has_not_logged 'the image is corrupt|marked'
    writetool "$uri" --raw "$raw" w:2M:64k:6 w:2100k:512:7 f
    nbdtool read "$uri" $((2 * 1024 * 1024)) 65536 |
        cmp - <(tail -c +$((2 * 1024 * 1024 + 1)) "$raw" | head -c 65536) ||
        fail "what was written over it is not there"
    stop_nbdkit
    in_qemu "$image"
    qemu-img check -q "${opened[@]}" || fail "$1: the overlay is not clean"
    [ "$(info "data.get('corrupt', False)")" = False ] ||
        fail "$1: the overlay is marked as corrupt"
    sha256sum --quiet -c "$tmp/lower-sums" || fail "$1: the base has changed"
}

make_two ()
{
    over_qcow2 cluster_size=64k "$1"
    with_qemu "write -q -P 9 1M 64k"
    mv "$image" "$tmp/lower-2.qcow2"
    over "$tmp/lower-2.qcow2" qcow2 "$1"
    keep "$tmp/lower-2.qcow2"
}

broken over_plain 1 "in the base"
broken two 1 "two files below"

echo "one that the overlay holds itself is another matter"
make_over_plain cluster_size=64k
with_qemu "write -q -P 1 2M 64k"
break_entry "$image" 32
serve_file
writetool "$uri" "!EIO:w:2100k:512:2" "!EIO:w:4M:64k:3"
stop_nbdkit
has_logged 'the image is corrupt'
has_not_logged 'backing file'
