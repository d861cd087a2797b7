#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2-compress over plugins that are no local file: an ssh server, and an NBD
# server.  Each request of the client is one write below, besides tables; QEMU
# checks the image and compares.  It names the servers that are not installed.
# shellcheck source=compressing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/compressing.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

empty "$tmp/image"
fill "file" file "$tmp/image"
judge "file" "$tmp/image"

if [ -x /usr/sbin/sshd ] &&
        "$NBDKIT" --dump-plugin ssh </dev/null >/dev/null 2>&1; then
    start_sshd
    empty "$tmp/image"
    fill "ssh" ssh "${ssh_args[@]}" "$tmp/image"
    judge "ssh" "$tmp/image"
else
    echo "no ssh: sshd or the ssh plugin is missing"
fi

if "$NBDKIT" --dump-plugin nbd </dev/null >/dev/null 2>&1; then
    empty "$tmp/image"
    qemu-nbd -t -e 8 -f raw -k "$tmp/below.sock" --pid-file="$tmp/below.pid" \
        "$tmp/image" &
    cleanup_fn kill $!
    wait_for test -s "$tmp/below.pid"
    fill "qemu-nbd" nbd socket="$tmp/below.sock"
    judge "qemu-nbd" "$tmp/image"
else
    echo "no NBD: the nbd plugin is missing"
fi
