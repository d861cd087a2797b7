#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2ctl's errors: each wrong use, each kind of file that is no image, and
# images that others have open.  All have their exit code and name the remedy.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_program mkfifo

cd "$tmp"
qemu-img create -q -f qcow2 disk.qcow2 1M
head -c 70000 /dev/zero | tr '\0' 'x' > raw
qemu-img create -q -f qcow2 -b raw -F raw overlay.qcow2 1M

# ---- The command line ------------------------------------------------------

# Code, what it says, and the arguments.
while IFS='|' read -r code_wanted text arguments; do
    eval "set -- $arguments"
    fails "$code_wanted" "$text" "$@"
    grep -q "Try 'qcow2ctl" "$err" ||
        fail "qcow2ctl $arguments does not tell where the help is"
    [ ! -s "$out" ] || fail "qcow2ctl $arguments prints a result"
done <<'END'
1|no command was given|
1|no command was given|-q
1|no command 'frobnicate'|frobnicate disk.qcow2
1|'snapshot' needs another word|snapshot
1|no command 'snapshot frob'|snapshot frob disk.qcow2
1|no option --frobnicate|--frobnicate info disk.qcow2
1|no option --frobnicate|info --frobnicate disk.qcow2
1|no option -Z|info -Z disk.qcow2
1|no option -Z|info -qZ disk.qcow2
1|--output must be human or json, not 'xml'|--output xml info disk.qcow2
1|--output must be human or json, not ''|info --output= disk.qcow2
1|--output needs a value: human.json|info disk.qcow2 --output
1|the image cannot be 'raw'|info -f raw disk.qcow2
1|the image cannot be 'raw'|--format=raw check disk.qcow2
1|--chain takes no value|info --chain=yes disk.qcow2
1|-u opens no backing file|rebase -u -b raw -F raw --new-backing raw disk.qcow2
1|nothing is to be changed|amend -o '' disk.qcow2
1|only --chain looks at other files|info --backing raw overlay.qcow2
1|something is missing: info IMAGE|info
1|'more' is too much: info IMAGE|info disk.qcow2 more
1|an empty word is no operand|info ''
1|--repair: 'some' is none of leaks, all|check --repair some disk.qcow2
1|-r needs a value: leaks.all|check disk.qcow2 -r
1|--memory: 'much' is no size|check --memory much disk.qcow2
1|--memory: '-1' is no size|check --memory=-1 disk.qcow2
1|--memory: '1.5' is no size|check --memory 1.5 disk.qcow2
1|--memory: '99999999E' is no size|check --memory 99999999E disk.qcow2
1|--dry-run says what --repair would do|check --dry-run disk.qcow2
1|only one of --snapshot, --diff|map --snapshot a --bitmap b disk.qcow2
1|give either --size or an image|measure
1|give either --size or an image|measure --size 1G disk.qcow2
1|--output-format: 'raw' is none of qcow2|measure -O raw --size 1G
1|how large is the disk to be|create new.qcow2
1|size: '1X' is no size|create new.qcow2 1X
1|format of the backing file is never guessed|create -b raw new.qcow2
1|no option 'colour'|create -o colour=blue new.qcow2 1M
1|compat must be 0.10, v2, 1.1 or v3, not '4'|create -o compat=4 new.qcow2 1M
1|extended_l2 must be on or off, not 'maybe'|create -o extended_l2=maybe new.qcow2 1M
1|refcount_bits must be a power of two|create -o refcount_bits=x new.qcow2 1M
END
[ ! -e new.qcow2 ] || fail "a wrong command line leaves a file"

# The engine's refusals leave no file either.
fails 1 'power of two' create -o cluster_size=65000 new.qcow2 1M
fails 1 'lazy refcounts need version 3' \
      create -o lazy_refcounts=on,compat=0.10 new.qcow2 1M
fails 1 'needs --passphrase' \
      create -o encrypt.format=luks new.qcow2 1M
fails 5 'none: No such file' create -b none -F raw new.qcow2
fails 5 'none/new.qcow2 cannot be made: No such' create none/new.qcow2 1M
[ ! -e new.qcow2 ] || fail "a failed creation leaves a file"

# ---- Files that are no images ----------------------------------------------

mkdir folder
mkfifo pipe
head -c 100 disk.qcow2 > short
: > empty
for command in info check map measure 'snapshot list' 'bitmap list'; do
    no_image=1
    [ "$command" != check ] || no_image=63
    # shellcheck disable=SC2086
    {
        fails 5 'none: No such file or directory' $command none
        fails 1 'folder is a folder, and an image can only' $command folder
        fails 1 'pipe is a pipe' $command pipe
        fails 1 '/dev/null is a character device' $command /dev/null
        fails $no_image 'raw: not a qcow2 image' $command raw
        fails $no_image "empty: not a qcow2 .* create FILE SIZE' makes" \
              $command empty
        fails 1 'neither a file nor an NBD URI' $command http://x/disk.qcow2
    }
done
fails 1 'short: ' info short
if [ "$(id -u)" -ne 0 ]; then
    cp disk.qcow2 secret.qcow2
    chmod 0 secret.qcow2
    fails 1 'secret.qcow2: Permission denied' info secret.qcow2
    chmod 400 secret.qcow2
    fails 1 'it cannot be written to: Permission denied' \
          check -r all secret.qcow2
fi

# What is there is not written over.
cp disk.qcow2 copy.qcow2
fails 5 'is not empty; give --force' create copy.qcow2 1M
fails 5 'is not empty; give --force' create raw 1M
cmp disk.qcow2 copy.qcow2
works -q create --force copy.qcow2 2M
fails 1 'cannot be its own backing file' \
      create --force -b copy.qcow2 -F qcow2 copy.qcow2
works -q create empty 2M

# Names of snapshots and bitmaps.
fails 5 'no snapshot' map --snapshot none disk.qcow2
fails 5 'no bitmap' map --bitmap none disk.qcow2

# ---- Other files ------------------------------------------------------------

fails 1 "named 'raw'.*give --backing FILE, or --follow DIR" \
      info --chain overlay.qcow2
fails 1 "named 'raw'.*give --backing FILE, or --follow DIR" \
      measure overlay.qcow2
works info --chain --follow . overlay.qcow2
works info --chain --backing raw overlay.qcow2
fails 1 'there is no .*/folder/raw|no files? is|leads out of the folder' \
      measure --follow folder overlay.qcow2
fails 1 'no backing file, but --backing was given' \
      measure --backing raw disk.qcow2
fails 1 'must be raw or qcow2' \
      measure --backing raw --backing-format vmdk overlay.qcow2
run_ctl map overlay.qcow2
[ "$code" -eq 0 ] || fail "a map needs the backing file"
grep -q 'its backing file was not given' "$err" || fail "no warning"

# ---- Others have it open ----------------------------------------------------

for holder in qemu server; do
    case $holder in
    qemu)
        qemu-nbd -t -k "$tmp/qemu.sock" -f qcow2 disk.qcow2 &
        held_by=$!
        cleanup_fn end_process "$held_by"
        wait_for test -S "$tmp/qemu.sock"
        name=qemu-nbd
        ;;
    server)
        start_nbdkit --filter="$filter" file disk.qcow2
        # shellcheck disable=SC2154     # Set by start_nbdkit.
        held_by=$(cat "$tmp/nbdkit.pid")
        "$PYTHON" - "$uri" written <<'END' &
import sys, time, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"x" * 512, 0)
open(sys.argv[2], "w").close()
time.sleep(300)
END
        client=$!
        cleanup_fn end_process "$client"
        name=nbdkit
        wait_for test -e written
        ;;
    esac
    for command in 'info' 'check' 'map' 'measure' 'check -r all' \
                          'create --force'; do
        size=
        [ "$command" != 'create --force' ] || size=1M
        # shellcheck disable=SC2086
        fails 4 "disk.qcow2: in use by process $held_by \\($name\\)" $command \
              disk.qcow2 $size
    done
    fails 4 'another process has the image open' info disk.qcow2
    works info -U disk.qcow2
    works snapshot list --force-share disk.qcow2
    if [ $holder = qemu ]; then
        kill "$held_by"
        wait "$held_by" || true
    else
        kill "$client"
        wait "$client" 2> /dev/null || true
    fi
done
# A reader does not keep readers out.
qemu-nbd -t -r -k "$tmp/reader.sock" -f qcow2 copy.qcow2 &
cleanup_fn end_process $!
wait_for test -S "$tmp/reader.sock"
works check copy.qcow2
fails 4 'in use by process' check -r leaks copy.qcow2

# ---- The result cannot be written -------------------------------------------

if [ -e /dev/full ]; then
    code=0
    "$ctl" info disk.qcow2 > /dev/full 2> "$err" || code=$?
    [ "$code" -eq 1 ] || fail "code $code with a full disk for the result"
    grep -q 'the result cannot be written: No space' "$err" ||
        fail "it does not say so"
fi

# ---- Nothing is mounted on /proc ---------------------------------------------

if [ "$(id -u)" -eq 0 ] && unshare --mount true 2> /dev/null; then
    for command in "info disk.qcow2" "check -r leaks copy.qcow2"; do
        code=0
        # shellcheck disable=SC2016,SC2086      # The inner shell; words.
        unshare --mount sh -c 'mount -t tmpfs none /proc && exec "$@"' sh \
            "$ctl" $command > /dev/null 2> "$err" || code=$?
        [ "$code" -eq 1 ] || fail "code $code without /proc for $command"
        grep -q '/proc, which is not mounted' "$err" ||
            fail "it does not say so: $(cat "$err")"
    done
fi
echo "ok"
