#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Images on NBD servers: every command says the same as for the file; changing
# one needs --no-lock; servers that fail.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
requires_program jq
requires_plugin memory
has_json || skip "qcow2ctl was built without jansson"

cd "$tmp"
qemu-img create -q -f qcow2 -o cluster_size=4k disk.qcow2 4M
qemu-io -f qcow2 -c 'write -P 1 0 256k' -c 'write -z 1M 64k' disk.qcow2 \
        > /dev/null
qemu-img snapshot -c first disk.qcow2
qemu-img bitmap --add disk.qcow2 b0
qemu-io -f qcow2 -c 'write -P 2 128k 256k' disk.qcow2 > /dev/null
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 overlay.qcow2

# Without what depends on the name.
plain ()
{
    jq 'walk (if type == "object"
              then del (.filename, ."actual-size", ."file-size",
                        ."full-backing-filename")
              else . end)' "$1"
}

# compare WHAT URI: all that only looks.
compare ()
{
    local command

    for command in info check map measure 'snapshot list' 'bitmap list' \
                        'map --snapshot first' 'map --diff first..' \
                        'map --bitmap b0'; do
        # shellcheck disable=SC2086
        works --output json $command disk.qcow2
        plain "$out" > file.json
        # shellcheck disable=SC2086
        works --output json $command "$2"
        plain "$out" > nbd.json
        cmp file.json nbd.json || fail "$1: $command"
    done
    echo "ok: $1"
}

start_nbdkit file disk.qcow2
# shellcheck disable=SC2154     # Set by start_nbdkit.
compare "nbdkit file" "$uri"
works info --chain --backing "$uri" overlay.qcow2
grep -q "^image: nbd+unix" "$out" || fail "the chain has no NBD server"
works map --backing "$uri" overlay.qcow2
stop_nbdkit

# With a minimum block size that QEMU's server has for its file.
serve_raw ()
{
    qemu-nbd -t -e 0 -k "$tmp/raw.sock" -f raw -x some/export "$@" disk.qcow2 &
    server=$!
    cleanup_fn end_process $server
    wait_for test -S "$tmp/raw.sock"
}
raw="nbd+unix:///some/export?socket=$tmp/raw.sock"
serve_raw -r
compare qemu-nbd "$raw"
kill $server
wait $server || true
rm -f "$tmp/raw.sock"
serve_raw
fails 1 'NBD has no locks.*--no-lock' check -r all "$raw"
works check -r all --no-lock "$raw"
fails 1 'raw.sock|export' info "nbd+unix:///other?socket=$tmp/raw.sock"
kill $server
wait $server || true
fails 1 'none.sock' info "nbd+unix:///?socket=$tmp/none.sock"

# Creating one; what is in the export is not written over.
start_nbdkit memory 16M
fails 1 'NBD has no locks' create "$uri" 8M
works -q create --no-lock -o cluster_size=4k "$uri" 8M
works check "$uri"
fails 5 'is not empty; give --force' create --no-lock "$uri" 8M
works -q create --no-lock --force "$uri" 4M
qemu-img info --output json "json:{\"driver\":\"qcow2\",\"file\":{
    \"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"$sock\"}}}" |
    jq -e '."virtual-size" == 4194304' > /dev/null ||
    fail "QEMU does not read what was created"
stop_nbdkit

# ^C ends a creation, which leaves no image; SIGUSR1 says how far it is.
if "$NBDKIT" --dump-plugin --filter=delay null > /dev/null 2>&1; then
    start_nbdkit --filter=delay memory 256M wdelay=1000ms
    "$ctl" -p create --no-lock -o preallocation=full "$uri" 200M \
           > "$out" 2> "$err" &
    pid=$!
    wait_for grep -q % "$err"
    kill -USR1 $pid
    kill -INT $pid
    code=0
    wait $pid || code=$?
    [ "$code" -eq 1 ] || { cat "$err"; fail "code $code after ^C"; }
    grep -q 'was cancelled; there is none' "$err" ||
        { cat "$err"; fail "it does not say that it was cancelled"; }
    fails 1 'not a qcow2 image' info "$uri"
    stop_nbdkit
fi

# One that cannot be written to, and one that fails.
start_nbdkit -r file disk.qcow2
fails 1 'cannot be written to' check -r all --no-lock "$uri"
stop_nbdkit
start_nbdkit --filter=error file disk.qcow2 error-pread=EIO error-pread-rate=1
fails 1 '.' info "$uri"
fails 1 '.' check "$uri"
stop_nbdkit
echo "ok"
