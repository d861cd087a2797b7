#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over the split plugin: the image is in pieces, cut where nothing is aligned.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin split
make_images
for name in mix mix-extl2; do
    split -b 333333 "$tmp/images/$name.qcow2" "$tmp/$name-piece."
    start_nbdkit --filter="$filter" split "$tmp/$name-piece."*
    check_disk "$uri" "$name"
    stop_nbdkit
done
