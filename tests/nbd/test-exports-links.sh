#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Hard and symbolic links in a directory are the same image: it is opened once.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
make_standard_image
mkdir "$tmp/images"
mv "$tmp/disk.qcow2" "$tmp/images/a"
ln "$tmp/images/a" "$tmp/images/b"
ln -s a "$tmp/images/c"
start_nbdkit -r -v --filter="$filter" file dir="$tmp/images"
for name in a b c a; do
    nbdtool compare "$(export_uri $name)" "$tmp/disk.raw" --reads 20
done
[ "$(opens)" = 1 ] || fail "opened $(opens) times"
