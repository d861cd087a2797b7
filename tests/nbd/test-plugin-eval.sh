#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over a plugin written in shell, which takes one request at a time.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin eval
skip_if_instrumented "what is preloaded would go into the scripts, too"
make_images
for name in mix mix-extl2; do
    image=$tmp/images/$name.qcow2
    start_nbdkit --filter="$filter" eval \
        get_size="stat -c %s '$image'" \
        pread="dd if='$image' iflag=count_bytes,skip_bytes skip=\$4 count=\$3 status=none"
    check_disk "$uri" "$name"
    stop_nbdkit
done
