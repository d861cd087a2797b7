#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over the curl plugin: the image is a file of a web server.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin curl
make_images
start_nginx "$tmp/images"
for name in mix mix-extl2; do
    start_nbdkit --filter="$filter" curl "http://localhost/$name.qcow2" \
        unix-socket-path="$tmp/nginx.sock"
    check_disk "$uri" "$name"
    stop_nbdkit
done
