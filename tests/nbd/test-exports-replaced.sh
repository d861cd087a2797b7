#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image that is replaced, grows, shrinks or is written to between
# connections: new connections see the new image, old ones the image that they
# opened.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
mkdir "$tmp/images"
for i in 1 2; do
    make_disk "$tmp/$i.raw" 4194304 65536 "$i"
    make_image "$tmp/$i.qcow2" "$tmp/$i.raw"
    truncate -s 5M "$tmp/$i.qcow2"
done
make_disk "$tmp/3.raw" 1234432 4096 3
make_image "$tmp/3.qcow2" "$tmp/3.raw" -c -o cluster_size=4096

# run_all URI ARGUMENT...: run all cases, for file= and for dir=.
run_all ()
{
    local where=$1 i

    shift
    cp "$tmp/1.qcow2" "$tmp/images/disk"
    start_nbdkit -v --filter="$filter" "$@"
    where="$where?socket=$sock"

    echo "replaced by another file of the same size, and back"
    nbdtool compare "$where" "$tmp/1.raw" --reads 20
    for i in 2 1; do
        cp "$tmp/$i.qcow2" "$tmp/images/new"
        mv "$tmp/images/new" "$tmp/images/disk"
        nbdtool compare "$where" "$tmp/$i.raw" --reads 20
    done

    echo "by one of another size, format options, disk size"
    cp "$tmp/3.qcow2" "$tmp/images/new"
    mv "$tmp/images/new" "$tmp/images/disk"
    nbdtool compare "$where" "$tmp/3.raw" --reads 20

    echo "overwritten in place: larger, then the same size"
    for i in 2 1; do
        cat "$tmp/$i.qcow2" >"$tmp/images/disk"
        nbdtool compare "$where" "$tmp/$i.raw" --reads 20
    done

    echo "written to by qemu-io"
    cp "$tmp/1.raw" "$tmp/now.raw"
    qemu-io -f qcow2 "$tmp/images/disk" -c 'write -q -P 77 1M 1M' \
        -c 'write -q -z 3M 64k'
    qemu-io -f raw "$tmp/now.raw" -c 'write -q -P 77 1M 1M' \
        -c 'write -q -z 3M 64k'
    nbdtool compare "$where" "$tmp/now.raw" --reads 20

    echo "resized"
    qemu-img resize -q -f qcow2 "$tmp/images/disk" 9M
    truncate -s 9M "$tmp/now.raw"
    nbdtool compare "$where" "$tmp/now.raw" --reads 20

    echo "gone, and back"
    mv "$tmp/images/disk" "$tmp/away"
    nbdtool fails "$where"
    mv "$tmp/away" "$tmp/images/disk"
    nbdtool compare "$where" "$tmp/now.raw" --reads 20

    echo "replaced while it is being served"
    "$PYTHON" - "$where" "$tmp" <<'END'
import os
import shutil
import sys
from nbdtool import Raw, connect

uri, tmp = sys.argv[1:]
old, new = Raw(f"{tmp}/now.raw"), Raw(f"{tmp}/2.raw")
before = connect(uri)
shutil.copy(f"{tmp}/2.qcow2", f"{tmp}/images/new")
os.rename(f"{tmp}/images/new", f"{tmp}/images/disk")
after = connect(uri)
assert before.get_size() == old.size and after.get_size() == new.size
for offset in range(0, new.size, 100000):
    length = min(100000, new.size - offset)
    old.check(offset, bytes(before.pread(length, offset)))
    new.check(offset, bytes(after.pread(length, offset)))
before.shutdown()
after.shutdown()
END
    stop_nbdkit
}

run_all nbd+unix:// file "$tmp/images/disk"
run_all nbd+unix:///disk file dir="$tmp/images"
