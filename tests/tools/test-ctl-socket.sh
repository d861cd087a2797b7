#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl -S: the same commands, and the same results, on an image that is
# being served.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/nbd/control.sh
. "$top_srcdir/tests/nbd/control.sh"
requires_program jq

# ctl_fails CODE REGEX ARGUMENT...
ctl_fails ()
{
    local code=$1 regex=$2 status=0

    shift 2
    "$ctl" "$@" >"$tmp/said" 2>&1 || status=$?
    [ $status -eq "$code" ] || fail "status $status of: $*: $(cat "$tmp/said")"
    has "$regex" "$*"
}

# client EXPORT CODE: with a handle 'h', and a function 'ctl'.
client ()
{
    "$PYTHON" -c "import nbd, subprocess
def ctl(*args, check=True):
    return subprocess.run(['$ctl', *args], check=check, capture_output=True,
                          text=True)
h = nbd.NBD()
h.set_export_name('$1')
h.connect_unix('$sock')
$2
h.shutdown()" || fail "the client of '$1'"
}

qemu-img create -q -f qcow2 "$tmp/disk" 8M
start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control" \
    qcow2-bitmaps=lazy

echo "snapshots, while a client has the image open"
client "" "
h.pwrite(b'1' * 65536, 0)
ctl('-S', '$control', 'snapshot', 'create', '', 'one')
h.pwrite(b'2' * 65536, 0)
ctl('snapshot', 'create', '--socket=$control', '', 'two words')"
"$ctl" -S "$control" snapshot list "" >"$tmp/served"
"$ctl" -S "$control" --output json snapshot list "" >"$tmp/served.json"
"$ctl" -q -S "$control" snapshot list "" >"$tmp/quiet"
[ ! -s "$tmp/quiet" ] || fail "-q prints"
"$ctl" -S "$control" info "" >"$tmp/info"
grep -qx 'virtual size: 8 MiB (8388608 bytes)' "$tmp/info" || fail "info"
grep -q 'two words' "$tmp/info" || fail "info has no snapshots"
"$ctl" -S "$control" --output json info "" |
    jq -e '.[0]["virtual-size"] == 8388608' >/dev/null || fail "info as JSON"
client "" "
out = ctl('-S', '$control', 'stats').stdout
assert 'table-misses' in out and 'writes' in out, out
assert 'requests-that-waited' in out, out
ctl('-S', '$control', 'flush', '')"

echo "bitmaps and checkpoints"
"$ctl" -S "$control" bitmap add --granularity 64k "" b1
client "" "
h.pwrite(b'3' * 65536, 0)
ctl('-S', '$control', 'bitmap', 'add', '-g', '1M', '--disabled', '', 'off')
ctl('-S', '$control', 'checkpoint', '--snapshot', 'cp1', '--add', 'b2', '-g',
    '64k', '--disable', 'b1', '')
h.pwrite(b'4' * 65536, 2 << 20)
ctl('-S', '$control', 'bitmap', 'merge', '', 'off', 'b1', 'b2')
ctl('-S', '$control', 'bitmap', 'disable', '', 'b2')
ctl('-S', '$control', 'bitmap', 'enable', '', 'b2')
ctl('-S', '$control', 'bitmap', 'clear', '', 'b1')
ctl('-S', '$control', 'bitmap', 'remove', '', 'b1')"
"$ctl" -S "$control" bitmap list "" >"$tmp/bitmaps"
"$ctl" -S "$control" --output json bitmap list "" >"$tmp/bitmaps.json"
"$ctl" -q -S "$control" bitmap list "" >"$tmp/quiet"
[ ! -s "$tmp/quiet" ] || fail "-q prints"
client "" "ctl('-S', '$control', 'snapshot', 'delete', '', 'cp1')"

echo "errors"
ctl_fails 5 'no bitmap' -S "$control" bitmap clear "" none
ctl_fails 5 'already' -S "$control" bitmap add "" off
ctl_fails 1 'a granularity of 0' -S "$control" bitmap add -g 0 "" x
ctl_fails 1 'power of two' -S "$control" bitmap add -g 5000 "" x
ctl_fails 1 'is about files' -S "$control" bitmap merge -b "$tmp/disk" "" off b2
ctl_fails 1 'cannot be done' -S "$control" bitmap remove --broken ""
ctl_fails 1 '--snapshot NAME' -S "$control" checkpoint ""
ctl_fails 1 'is for --add' -S "$control" checkpoint --snapshot x -g 64k ""
ctl_fails 1 'one snapshot of an image' -S "$control" checkpoint --snapshot x \
    "" "also"
ctl_fails 5 'no bitmap' -S "$control" checkpoint --snapshot x --disable none ""
ctl_fails 1 'is no UTF-8' -S "$control" bitmap add "" $'\xff'
ctl_fails 5 'already' -S "$control" snapshot create "" one
ctl_fails 5 'no snapshot' -S "$control" snapshot delete "" three
ctl_fails 1 'the server chooses' -S "$control" snapshot create --id 7 "" x
ctl_fails 1 'no options for locks' -S "$control" snapshot list -U ""
ctl_fails 1 'cannot be done' -S "$control" map ""
ctl_fails 1 'is about files' -S "$control" info --chain ""
ctl_fails 1 'give its control socket' stats
ctl_fails 1 'No such file' -S "$tmp/none" stats
ctl_fails 1 'Connection refused\|no control socket' -S "$sock" stats
ctl_fails 1 'an empty word' -S "$control" snapshot create "" ""
ctl_fails 1 'is no UTF-8' -S "$control" snapshot create "" $'\xff'
client snapshot/one "
p = ctl('-S', '$control', 'snapshot', 'delete', '', 'one', check=False)
assert p.returncode == 4 and 'is open' in p.stderr, p"
stop_nbdkit

echo "the same as of the file"
"$ctl" snapshot list "$tmp/disk" >"$tmp/file"
"$ctl" --output json snapshot list "$tmp/disk" >"$tmp/file.json"
"$ctl" bitmap list "$tmp/disk" >"$tmp/file.bitmaps"
cmp "$tmp/bitmaps" "$tmp/file.bitmaps" || fail "the lists of bitmaps differ"
"$ctl" --output json bitmap list "$tmp/disk" | jq -S . >"$tmp/file.bitmaps"
jq -S . "$tmp/bitmaps.json" | cmp - "$tmp/file.bitmaps" ||
    fail "the lists of bitmaps differ as JSON"
cmp "$tmp/served" "$tmp/file"
cmp "$tmp/served.json" "$tmp/file.json"

echo "deleting"
start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control"
"$ctl" -S "$control" snapshot delete "" one
"$ctl" -S "$control" snapshot delete --by-id "" 2
[ -z "$("$ctl" -S "$control" snapshot list "")" ] || fail "some are left"
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check"

echo "a server that does not speak so"
"$PYTHON" -c 'if True:
    import socket, sys
    s = socket.socket(socket.AF_UNIX)
    s.bind(sys.argv[1])
    s.listen()
    for answer in (b"", b"hello\n", b"{}\n", b"[1]\n", b"{\"QMP\": {}}\n"):
        c = s.accept()[0]
        c.sendall(answer)
        c.close()' "$tmp/other" &
other=$!
wait_for test -S "$tmp/other"
ctl_fails 1 'closed the connection' -S "$tmp/other" stats
for _ in 1 2 3; do
    ctl_fails 1 'no control socket' -S "$tmp/other" stats
done
ctl_fails 1 'closed the connection\|Broken pipe\|reset' -S "$tmp/other" stats
wait "$other"
