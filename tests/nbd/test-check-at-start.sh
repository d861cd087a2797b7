#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A bad image is an error when the server starts, if it is certainly a local
# file; all other errors that would keep clients out are in the log before the
# first client connects.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
make_base base.raw 3000000
overlay top.qcow2 base.raw raw 4M
truth top.qcow2
qemu-img convert -f qcow2 -O qcow2 top.qcow2 alone.qcow2
echo "no image, but some text" >text
head -c 50 alone.qcow2 >short

# broken_image NAME OFFSET BYTES
broken_image ()
{
    cp alone.qcow2 "$1"
    printf '%b' "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
broken_image version 4 '\0\0\0\11'
broken_image feature 72 '\100\0\0\0'
broken_image clusters 20 '\0\0\0\77'

# logs REGEX PARAMETER...: the server starts, and its log matches before a
# client has connected.
logs ()
{
    local regex=$1

    shift
    start_nbdkit -P logs "$@"
    grep -E -q -e "$regex" "$log" || fail "no '$regex' for $*: $(cat "$log")"
    stop_nbdkit logs
}

# silent PARAMETER...: the server starts and logs nothing.
silent ()
{
    start_nbdkit -P silent "$@"
    [ ! -s "$log" ] || fail "unasked: $*: $(cat "$log")"
    stop_nbdkit silent
}

echo "a bad local file ends the server before it begins"
for mode in '' -r; do
    refused 'qcow2: text: not a qcow2 image' $mode --filter="$filter" file text
    refused 'qcow2: short: ' $mode --filter="$filter" file short
    refused 'qcow2: version: unsupported qcow2 version 9' $mode \
        --filter="$filter" file version
    refused 'qcow2: feature: .*feature' $mode --filter="$filter" file feature
    refused 'qcow2: clusters: .*cluster' $mode --filter="$filter" file clusters
done
refused 'No such file|not regular' --filter="$filter" file missing

echo "also as a daemon"
status=0
run_nbdkit -P "$tmp/daemon.pid" -U "$tmp/daemon.sock" --filter="$filter" \
    file text 2>"$tmp/daemon.out" || status=$?
[ "$status" = 1 ] || fail "status $status"
grep -q 'text: not a qcow2 image' "$tmp/daemon.out" || fail "no reason"
[ ! -e "$tmp/daemon.pid" ] || fail "a daemon was started"

echo "what is in order starts without a word"
silent --filter="$filter" file alone.qcow2
silent -r --filter="$filter" file alone.qcow2
silent --filter="$filter" file top.qcow2 qcow2-backing=base.raw
silent --filter="$filter" file dir=.
cp "$tmp/truth.raw" "$tmp/disk.raw"
start_nbdkit --filter="$filter" file top.qcow2 qcow2-backing=base.raw
nbdtool compare "$uri" "$tmp/truth.raw" --reads 20
stop_nbdkit

echo "where something is in between, or may be, it is only logged"
logs 'text: not a qcow2 image' --filter="$filter" --filter=offset file text \
    offset=0
logs 'text: not a qcow2 image' --filter="$filter" --filter=cow file text
logs 'not a qcow2 image' --filter="$filter" data "raw=nothing"
if "$NBDKIT" --dump-plugin --filter=xz null >/dev/null 2>&1 &&
        [ -n "$(type -P xz)" ]; then
    xz -k --block-size=65536 alone.qcow2
    silent -r --filter="$filter" --filter=xz file alone.qcow2.xz
fi
# Above ours it does not matter.
refused 'text: not a qcow2 image' --filter=cow --filter="$filter" file text

echo "a filter that ends the server with the first connection is left in peace"
requires_filter exitlast
start_nbdkit --filter="$filter" --filter=exitlast file top.qcow2 \
    qcow2-backing=base.raw
[ "$(nbdtool size "$uri")" = $((4 * 1024 * 1024)) ] || fail "other size"
stop_nbdkit

echo "a parameter turns it off"
silent --filter="$filter" file text qcow2-check-at-start=off
silent --filter="$filter" --filter=cow file text qcow2-check-at-start=off
silent --filter="$filter" file top.qcow2 qcow2-check-at-start=off

echo "other files and passphrases"
logs "base.raw', and no file is opened because" --filter="$filter" file top.qcow2
logs 'none.raw cannot be opened: No such file' --filter="$filter" \
    file top.qcow2 qcow2-backing=none.raw
logs 'none.raw cannot be opened: No such file' --filter="$filter" \
    --filter=cow file top.qcow2 qcow2-backing=none.raw
if grep -q '^qcow2_luks=yes' <(run_nbdkit --dump-plugin --filter="$filter" null)
then
    qemu-img create -q -f qcow2 --object secret,id=s,data=secret -o \
        encrypt.format=aes,encrypt.key-secret=s secret.qcow2 1M >/dev/null 2>&1 &&
        logs 'encrypted with AES; give its passphrase' --filter="$filter" \
            file secret.qcow2
fi

echo "nothing that an image names is opened with the rights of the start"
if [ "$(id -u)" = 0 ] && [ -z "$instrumented" ]; then
    chmod 777 "$tmp"
    chmod 755 "$images"
    chmod 600 base.raw
    logs 'base.raw cannot be opened: Permission denied' -u nobody \
        --filter="$filter" file top.qcow2 qcow2-backing=base.raw
    chmod 600 alone.qcow2
    logs 'alone.qcow2.*Permission denied' -u nobody --filter="$filter" \
        file alone.qcow2
    chmod 644 base.raw alone.qcow2
fi

echo "another program writes to it"
qemu-nbd -t -k "$tmp/qemu.sock" -f qcow2 alone.qcow2 &
qemu=$!
wait_for test -S "$tmp/qemu.sock"
if qemu-img info alone.qcow2 >/dev/null 2>&1; then
    echo "QEMU takes no locks here"
else
    logs 'another process has the image open for writing' --filter="$filter" \
        file alone.qcow2
    logs 'another process has the image open for writing' -r \
        --filter="$filter" file alone.qcow2
    silent --filter="$filter" file alone.qcow2 qcow2-lock=off
fi
kill $qemu
wait $qemu || true
silent --filter="$filter" file alone.qcow2
