#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the exit status says of an image when a command fails: each write and
# flush of each command fails, alone and with all that follow.  As QEMU sees the
# images, they are what they were unless the status is 6, and changed if it
# is 0.  The same if a server ends before it answers.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io
requires_program jq
# shellcheck source=tests/nbd/header_faults.sh
. "$toolsdir/../nbd/header_faults.sh"
with_faults "$ctl" faulty

MOST=80         # writes and flushes of a command; it is to have less

# state: of all images, by QEMU.  The disks' contents, too: they are small.
state ()
{
    local image

    for image in "$tmp/now"/*; do
        qemu-img info --output=json "$image" | jq -cS '
            [[.snapshots[]?.name], ."virtual-size",
             ."format-specific".data.bitmaps,
             ."format-specific".data.compat,
             ."format-specific".data."lazy-refcounts",
             [."format-specific".data.encrypt.slots[]?.active],
             ."full-backing-filename"]'
        [ -n "${encrypted:-}" ] || {
            qemu-img convert -O raw "$image" "$tmp/raw" &&
                md5sum < "$tmp/raw"
        }
    done 2>&1
}

# Fresh copies in 'now' of what is in 'was'.
again ()
{
    rm -rf "$tmp/now"
    cp -r "$tmp/was" "$tmp/now"
}

# try FAULTY ARGUMENT...: fails each request for that image.
try ()
{
    local watched=$1 mode before after found n codes=

    shift
    again
    before=$(state)
    "$ctl" "$@" > "$out" 2> "$err" || fail "$*: $(cat "$err")"
    after=$(state)
    [ "$before" != "$after" ] || fail "$*: QEMU sees no change"
    for mode in only from; do
        for (( n = 0; n < MOST; n++ )); do
            again
            faults "/now/$watched" "$mode" "$n"
            ctl=$tmp/faulty run_ctl "$@"
            faults
            found=$(state)
            codes="$codes $code"
            case $code in
                0) [ "$found" = "$after" ] ||
                       fail "$*: $mode $n: it says nothing; $found" ;;
                6) : ;;
                *) [ "$found" = "$before" ] ||
                       fail "$*: $mode $n: status $code, but it is changed" \
                            "($(cat "$err")): $found" ;;
            esac
            # Some cannot fail it: it only tries them.
            [ "$code" -ne 0 ] || [ "$n" -lt "${least:-4}" ] || break
        done
        [ "$n" -lt "$MOST" ] || fail "$*: it always fails"
    done
    echo "$*:$codes"
    for code in 0 ${expected:-1 6}; do
        case "$codes " in *" $code "*) : ;; *) fail "$*: never $code" ;; esac
    done
}

mkdir "$tmp/was"
disk=$tmp/was/a
qemu-img create -q -f qcow2 -o cluster_size=4k "$disk" 1M
qemu-io -c 'write -q -P 3 100k 64k' "$disk"
qemu-img snapshot -c old "$disk"
qemu-io -c 'write -q -P 4 120k 64k' "$disk"
works bitmap add "$disk" b0
now=$tmp/now/a

try a snapshot create "$now" new
try a snapshot delete "$now" old
try a snapshot apply "$now" old
try a bitmap add "$now" b1
try a bitmap remove "$now" b0
try a bitmap disable "$now" b0
try a checkpoint --snapshot new --disable b0 --add b1 "$now"
try a resize "$now" 2M
try a amend -o lazy_refcounts=on "$now"
works snapshot delete "$disk" old
try a resize --shrink "$now" 512k
# Bitmaps are given up first.
works bitmap remove "$disk" b0
try a empty "$now"

# Of two images, each.
cp "$disk" "$tmp/was/b"
for name in a b; do
    try $name checkpoint --snapshot new --add b1 "$now" "$tmp/now/b"
done

# A backing file that is smaller.
rm "$tmp/was/b"
qemu-img create -q -f qcow2 -o cluster_size=4k "$tmp/was/base" 512k
works rebase -u -b "$tmp/was/base" -F qcow2 "$disk"
sed "s,$tmp/was/base,$tmp/now/base,g" < "$disk" > "$disk.new"
mv "$disk.new" "$disk"
again
try a rebase --follow "$tmp" -b '' "$now"
try base commit --follow "$tmp" "$now"
# The other is larger before this one is written to.
expected=6 try a commit --follow "$tmp" "$now"

# Keys.
rm -r "$tmp/was"
mkdir "$tmp/was"
if "$ctl" --version | grep -q encryption=yes; then
    printf old > "$tmp/old"
    printf new > "$tmp/new"
    qemu-img create -q -f qcow2 --object "secret,id=s,file=$tmp/old" \
        -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \
        "$disk" 1M
    encrypted=yes
    try a key add --passphrase "+$tmp/old" --new-passphrase "+$tmp/new" \
        --iter-time 1 "$now"
    try a key change --passphrase "+$tmp/old" --new-passphrase "+$tmp/new" \
        --iter-time 1 "$now"
    works key add --passphrase "+$tmp/old" --new-passphrase "+$tmp/new" \
        --iter-time 1 "$disk"
    # Its first write is the one that decides.
    expected=6 try a key remove --passphrase "+$tmp/new" "$now"
fi

# ---- Several images -----------------------------------------------------

disks=("$tmp/a.qcow2" "$tmp/b.qcow2" "$tmp/c.qcow2")
for disk in "${disks[@]}"; do
    qemu-img create -q -f qcow2 "$disk" 8M
done

# has FILE [SNAPSHOT]
has ()
{
    local found

    found=$(qemu-img info --output=json "$1" | jq -r '.snapshots[]?.name')
    [ "$found" = "${2:-}" ] || fail "$1 has '$found', not '${2:-}'"
}

# The header of one of them cannot be written: who has been changed is said.
faults /b.qcow2 header
ctl=$tmp/faulty fails 6 'b.qcow2: it is not known whether the image is changed' \
    checkpoint --snapshot five "${disks[@]}"
for said in 'a.qcow2: has been' 'b.qcow2: may have been' \
        'c.qcow2: has not been'; do
    grep -q -e "/$said changed\$" "$err" || fail "not '$said': $(cat "$err")"
done
has "$tmp/a.qcow2" five
has "$tmp/c.qcow2"
# All of that image fails, so none is changed.
faults /b.qcow2 all
ctl=$tmp/faulty fails 1 'b.qcow2: ' checkpoint --snapshot six "${disks[@]}"
! grep -q 'been changed' "$err" || fail "it says $(cat "$err")"
has "$tmp/a.qcow2" five
faults

# ---- Servers that end ---------------------------------------------------

# serve_until N: a control socket that answers N commands, and then is gone.
serve_until ()
{
    rm -f "$tmp/socket"
    "$PYTHON" - "$tmp/socket" "$1" <<'END' &
import json, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
left = int(sys.argv[2])
while left >= 0:
    client, _ = server.accept()
    client.sendall(b'{"QMP": {}}\n')
    text = ""
    while left >= 0 and (more := client.recv(4096)):
        text += more.decode()
        try:
            json.loads(text)
        except ValueError:
            continue
        text, left = "", left - 1
        if left >= 0:
            client.sendall(b'{"return": {}}\n')
    client.close()
END
    server=$!
    for (( n = 0; n < 200; n++ )); do
        [ ! -S "$tmp/socket" ] || return 0
        sleep 0.05
    done
    fail "no socket"
}

# loses ANSWERS CODE ARGUMENT...
loses ()
{
    local answers=$1 code=$2

    shift 2
    serve_until "$answers"
    fails "$code" 'closed' -S "$tmp/socket" "$@"
    wait "$server"
}

if has_json; then
    loses 1 6 snapshot create a new
    loses 1 6 snapshot delete a new
    loses 1 6 bitmap add a b1
    loses 3 6 resize a 2M         # it asks for the size first
    loses 2 6 -p snapshot create a new
    grep -q 'not known whether' "$err" || fail "it says $(cat "$err")"
    # What asks for nothing changes nothing.
    loses 0 1 snapshot create a new
    loses 1 1 snapshot list a
fi
