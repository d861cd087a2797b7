#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over the data plugin, with the image as part of its parameter.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin data
make_images
for name in mix mix-extl2; do
    start_nbdkit --filter="$filter" data "<$tmp/images/$name.qcow2"
    check_disk "$uri" "$name"
    stop_nbdkit
done
