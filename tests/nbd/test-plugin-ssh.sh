#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over the ssh plugin: the image is a file of another host.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin ssh
make_images
start_sshd
for name in mix mix-extl2; do
    start_nbdkit --filter="$filter" ssh "${ssh_args[@]}" \
        "$tmp/images/$name.qcow2"
    check_disk "$uri" "$name"
    stop_nbdkit
done
