#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over the file plugin; also the same file as file=, and through fd= where
# nbdkit has it.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin file
make_images
for name in mix mix-extl2; do
    start_nbdkit --filter="$filter" file "$tmp/images/$name.qcow2"
    check_disk "$uri" "$name"
    stop_nbdkit
done

if "$NBDKIT" --help file | grep -q '^fd='; then
    exec 8<"$tmp/images/mix.qcow2"
    start_nbdkit -r --filter="$filter" file fd=8
    check_disk "$uri" mix
fi
