#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Real servers other than HTTP and S3, each started by the test.  It names
# those that are not installed.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

make_served_images

# ---- ssh -------------------------------------------------------------------

if [ -x /usr/sbin/sshd ] &&
        "$NBDKIT" --dump-plugin ssh </dev/null >/dev/null 2>&1; then
    start_sshd
    for name in plain packed; do
        check "ssh, $name" ssh "${ssh_args[@]}" "$tmp/www/$name.qcow2"
    done
else
    echo "no ssh: sshd or the ssh plugin is missing"
fi

# ---- NBD: two servers ------------------------------------------------------

if "$NBDKIT" --dump-plugin nbd </dev/null >/dev/null 2>&1; then
    for name in plain packed; do
        start_qemu_nbd "$name" "$tmp/www/$name.qcow2" raw
        check "qemu-nbd, $name" nbd socket="$tmp/$name.sock"
    done
fi
start_nbd_server ()
{
    local try

    for try in 1 2 3 4 5; do
        nbd_port=$(port $try)
        rm -f "$tmp/nbd-server.pid"
        cat >"$tmp/nbd-server.conf" <<END
[generic]
    port = $nbd_port
    listenaddr = 127.0.0.1
[plain]
    exportname = $tmp/www/plain.qcow2
    readonly = true
[packed]
    exportname = $tmp/www/packed.qcow2
    readonly = true
END
        nbd-server -C "$tmp/nbd-server.conf" -p "$tmp/nbd-server.pid" \
            2>"$tmp/nbd-server.log" || continue
        wait_for test -s "$tmp/nbd-server.pid"
        cleanup_fn kill "$(cat "$tmp/nbd-server.pid")"
        return 0
    done
    broken "nbd-server does not start"
}
if [ -n "$(type -P nbd-server)" ] &&
        "$NBDKIT" --dump-plugin nbd </dev/null >/dev/null 2>&1; then
    start_nbd_server
    for name in plain packed; do
        check "nbd-server, $name" nbd hostname=127.0.0.1 port="$nbd_port" \
            export="$name"
    done
else
    echo "no nbd-server: it, or the nbd plugin, is missing"
fi
