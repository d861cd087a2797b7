#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# scripts/serve serves images and folders, with options in any order, or says
# why not; the lines that it prints can be pasted; clients that leave in the
# middle of a copy do not end it; on a terminal ^C ends it while clients are
# connected, and it asks for a passphrase.

# shellcheck source=tests/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
requires nbdkit nbdinfo nbdcopy qemu-img qemu-io mke2fs
"$python" -c 'import nbd' 2>/dev/null || skip "needs the Python module nbd"
make_tree

cd "$tmp"
qemu-img create -q -f qcow2 a.qcow2 64M
qemu-io -f qcow2 -c 'write -q -P 65 0 64M' a.qcow2
qemu-img snapshot -c 's 1' a.qcow2
qemu-img create -q -f qcow2 b.qcow2 2M
mkdir images empty
cp a.qcow2 images/a.qcow2
cp b.qcow2 "images/b c.qcow2"

serve=$tree/scripts/serve
serving=
stop_serve ()
{
    if [ -n "$serving" ]; then
        kill "$serving" 2>/dev/null || :
        wait "$serving" || :
    fi
    serving=
}
trap 'stop_serve; rm -rf "$tmp"' EXIT

# Starts it and waits until it serves; sets 'uri'.
start_serve ()
{
    stop_serve
    rm -f out
    "$serve" "$@" > out 2> err < /dev/null &
    serving=$!
    until grep -sq nbdfuse out; do
        kill -0 "$serving" 2>/dev/null || {
            cat out err
            fail "serve $* does not serve"
        }
        sleep 0.1
    done
    uri=$(sed -n 's/^  \(nbd+unix:.*\)/\1/p' out | head -n 1)
}

# serves TEXT ARGUMENT...: with these arguments it prints TEXT.
serves ()
{
    local text=$1

    shift
    start_serve "$@"
    grep -qF -- "$text" out || { cat out err; fail "serve $*: no '$text'"; }
    echo "ok: serve $*"
}

# refuses TEXT ARGUMENT...: it fails with an error that has TEXT.
refuses ()
{
    local text=$1

    shift
    if timeout -k 10 60 "$serve" "$@" > out 2> err < /dev/null; then
        cat out err
        fail "serve $* is not refused"
    fi
    if ! grep -qF -- "$text" err || grep -q 'until ^C' out; then
        cat out err
        fail "serve $*: no '$text'"
    fi
    echo "ok: serve $* is refused"
}

size_is ()
{
    [ "$(nbdinfo --size "${2:-$uri}")" = "$1" ] || fail "the size is not $1"
}

# ---- What is served -------------------------------------------------------

serves "serve: a.qcow2, 67108864 bytes, read-only" a.qcow2
serves "serve: a.qcow2, 67108864 bytes, read-only" -r a.qcow2
serves "serve: a.qcow2, 67108864 bytes, read-only" -rv -D qcow2.x=1 a.qcow2
grep -q 'debug:' err || fail "-v is lost"
serves "serve: a.qcow2" file=a.qcow2 --readonly
serves "serve: b.qcow2, 2097152 bytes, writable" --writable b.qcow2
qemu-io -f raw -c 'write -q -P 66 0 4k' -c 'read -q -P 66 0 4k' "$uri"
serves "socket=$tmp/a%20sock" -U "a sock" b.qcow2
size_is 2097152 "nbd+unix:///?socket=$tmp/a%20sock"
stop_serve
[ ! -e "a sock" ] || fail "the socket is left behind"
serves "nbd+unix:///snapshot/s%201?socket=" -e 'snapshot/s 1' a.qcow2
size_is 67108864
nbdinfo "$uri" | grep -qF 'export="snapshot/s 1"' || fail "another export"
serves "3 exports" dir=images
nbdinfo "${uri/'///'/'///b%20c.qcow2'}" > info ||
    fail "an image of a folder is not served"
serves "serve: images/, 3 exports" images/
serves "2097152 bytes" images -e 'b c.qcow2'
serves "bytes, read-only" a.qcow2 --filter=offset --filter=qcow2 offset=1M
size_is $((63 * 1024 * 1024))
serves "bytes, read-only" a.qcow2 --filter readahead
size_is 67108864
serves "serve: a sample disk, 67108864 bytes, read-only" qcow2-cache-size=1M

# ---- What is refused ------------------------------------------------------

stop_serve
refuses "a.qcow2 and b.qcow2: one image at a time" a.qcow2 b.qcow2
refuses "a.qcow2 and images: one image at a time" a.qcow2 dir=images
refuses "c.qcow2: no such file" c.qcow2
refuses "c.qcow2: no such file" -v c.qcow2
refuses "-U needs a value" a.qcow2 -U
refuses "--filter needs a value" a.qcow2 --filter
refuses "-p is for nbdkit itself" -p 10809 a.qcow2
refuses "--run is for nbdkit itself" a.qcow2 --run nbdinfo
refuses "--tls is for nbdkit itself" --tls=require a.qcow2
refuses "exclude each other" --writable a.qcow2 -r
refuses "serves local files" https://example.com/disk.qcow2
refuses "qcow2-passphrase=- asks on a terminal" a.qcow2 qcow2-passphrase=-
refuses "did not start (status 1), see its message above" a.qcow2 -t x
grep -q '^nbdkit: error' err || fail "there is no message above"
refuses "did not start (status 1), see its message in the log: --log=null" \
        a.qcow2 --log=null qcow2-cache-size=x
echo "this is no image" > text
refuses "see its message above" text
refuses "see its message above" a.qcow2 -e 'snapshot/no'
refuses "no image in empty can be served" empty

# ---- Lines to paste -------------------------------------------------------

# line WORD: the line that begins with WORD, to run it.
line ()
{
    sed -n "s/^  \\($1 .*\\)/\\1/p" out | tail -n 1
}

start_serve -U "it is" a.qcow2
bash -ec "$(line nbdinfo)" > info || fail "nbdinfo"
bash -ec "$(line nbdcopy)" || fail "nbdcopy"
[ "$(stat -c %s disk.img)" = 67108864 ] || fail "nbdcopy copied less"
guestfish="guestfish --ro -a 'nbd:///?socket=$tmp/it%20is' -i"
[ "$(line guestfish)" = "$guestfish" ] || fail "not the form for guestfish"
# The note about missing programs follows the list.
for program in guestfish qemu-system-x86_64; do
    found=''
    ! command -v "$program" > /dev/null || found=yes
    noted=''
    ! grep -q "^Not installed here: .*$program" out || noted=yes
    [ "$found$noted" = yes ] || fail "$program: found '$found', noted '$noted'"
done
if command -v qemu-system-sparc > /dev/null; then
    qemu=$(line qemu-system-x86_64)
    qemu=${qemu/qemu-system-x86_64 -m 1G/qemu-system-sparc -display none -S}
    echo quit | bash -ec "${qemu/if=virtio/if=none} -monitor stdio" > said 2>&1 ||
        { cat said; fail "QEMU does not take its line"; }
fi
if command -v nbdfuse > /dev/null && [ -w /dev/fuse ]; then
    bash -ec "$(line mkdir)" 2> said &
    fuse=$!
    until [ -s mnt/disk.img ] || ! kill -0 "$fuse" 2>/dev/null; do
        sleep 0.1
    done
    if kill -0 "$fuse" 2>/dev/null; then
        cmp mnt/disk.img disk.img || fail "nbdfuse shows something else"
        umount mnt 2>/dev/null || fusermount3 -u mnt || fail "unmounting"
        wait "$fuse" || :
    elif ! grep -qi 'fuse.*\(permi\|mount\)' said; then
        cat said
        fail "nbdfuse"
    fi
fi
stop_serve
echo "ok: lines to paste"

# ---- Clients that leave ---------------------------------------------------

start_serve a.qcow2
for ((i = 0; i < 12; i++)); do
    "$python" "$(dirname "$script")/leave.py" "$uri"
    nbdinfo --size "$uri" > said 2>&1 || :
    kill -0 "$serving" 2>/dev/null || {
        cat err
        fail "client $i ended the server"
    }
done
size_is 67108864
echo "ok: clients may leave in mid-copy"
stop_serve

# ---- A terminal -----------------------------------------------------------

"$python" "$(dirname "$script")/terminal.py" "$serve" "$tmp"
