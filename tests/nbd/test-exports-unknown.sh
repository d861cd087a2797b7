#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# If the meaning of export names is unknown, each name is another image: here
# with a plugin in shell, for which they are files.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin eval
skip_if_instrumented "what is preloaded would go into the scripts, too"
for i in 1 2; do
    # Of equal size, so that only the name tells them apart.
    make_disk "$tmp/$i.raw" 1048576 65536 "$i"
    make_image "$tmp/$i.qcow2" "$tmp/$i.raw"
    truncate -s 2M "$tmp/$i.qcow2"
done
# shellcheck disable=SC2016     # For the plugin's shell.
start_nbdkit -v --filter="$filter" eval \
    open='echo "$3"' \
    get_size="stat -c %s '$tmp'/\"\$2\"" \
    pread="dd if='$tmp'/\"\$2\" iflag=count_bytes,skip_bytes skip=\$4 count=\$3 status=none"
for i in 1 2 1; do
    nbdtool compare "$(export_uri "$i.qcow2")" "$tmp/$i.raw" --reads 10
done
[ "$(opens)" = 2 ] || fail "opened $(opens) times"
