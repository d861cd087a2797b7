#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Images with forbidden names, served with qcow2-follow: each is refused at
# once, with a reason, and nothing outside of the folder is opened or connected
# to.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

requires_program strace
requires strace -o "$tmp/trace" true
skip_if_instrumented "strace"

cd "$images"
make_base base.raw 1000000
make_base ../outside.raw 1000000 2
mkdir folder
mkfifo fifo
ln -s ../outside.raw link-out
ln -s "$images/base.raw" link-absolute
ln -s .. folder-out
ln -s /dev/zero zero
ln -s loop loop
ln -s /proc/self/fd magic
"$PYTHON" -c 'import socket
socket.socket(socket.AF_UNIX).bind("socket")'
long=$(printf 'a/%.0s' {1..511})b
longer=$(printf 'x%.0s' {1..1023})

# One image for each name, and the message that the log must have.
names=()
reasons=()
hostile ()
{
    names+=("$2")
    reasons+=("$1")
}
leaves='leads out of the folder'
hostile "$leaves" ../outside.raw
hostile "$leaves" "$tmp/outside.raw"
hostile "$leaves" folder/../../outside.raw
hostile "$leaves" "$images/../outside.raw"
hostile "$leaves" link-out
hostile "$leaves" link-absolute
hostile "$leaves" folder-out/outside.raw
hostile "$leaves" folder-out/images/base.raw
hostile "$leaves" file:../outside.raw
hostile "$leaves" file:///etc/passwd
hostile "$leaves" zero
hostile "$leaves" /dev/zero
hostile "$leaves" /dev/stdin
hostile "$leaves" /proc/self/exe
hostile "$leaves" "${images}x"
hostile "$leaves" /
hostile "$leaves" ..
hostile 'Too many levels|link that is not followed' loop
hostile "$leaves|link that is not followed" magic/0
hostile 'to a regular file' .
hostile 'to a file beneath' "$images"
hostile 'to a regular file' folder
hostile 'to a regular file' folder/
hostile 'to a regular file' fifo
hostile 'to a regular file' socket
hostile 'Not a directory' base.raw/
hostile 'Not a directory' base.raw/x
hostile 'to a file beneath' none
hostile 'to a file beneath' "$long"
hostile 'File name too long' "$longer"
hostile 'JSON' 'json:{"driver":"raw","file":{"filename":"base.raw"}}'
hostile 'JSON' 'json:'
hostile 'to a file beneath' 'file:json:{}'
hostile 'zero byte' 'base.raw\x00'
hostile 'zero byte' '\x00'
hostile 'zero byte' 'base.raw\x00../outside.raw'
for protocol in "nbd:unix:$tmp/listener" "nbd+unix:///?socket=$tmp/listener" \
        nbd://127.0.0.1:10809 https://127.0.0.1/a ssh://127.0.0.1/a \
        host_device:/dev/zero fat:rw:folder blkdebug::base.raw raw:base.raw; do
    hostile 'begins with a protocol' "$protocol"
done

qemu-img create -q -f qcow2 model.qcow2 1M
qemu-img create -q -f qcow2 -o data_file=model.data data.qcow2 1M
for i in "${!names[@]}"; do
    cp model.qcow2 "backing-$i"
    set_names "backing-$i" --backing "${names[i]}" --format raw
    cp data.qcow2 "data-$i"
    set_names "data-$i" --data-file "${names[i]}"
done

# refers EXPORT NAME [--data-file|--backing]
refers ()
{
    cp "$([ "$3" = --backing ] && echo model.qcow2 || echo data.qcow2)" "$1"
    set_names "$1" "$3" "$2" --format "${4-qcow2}"
}
declare -A others
refers self self --backing
others[self]='its own backing file'
refers self-name ./folder/../self-name --backing
others[self-name]='its own backing file'
refers self-raw self-raw --backing raw
others[self-raw]='its own backing file'
refers self-link self-link.hard --backing
ln self-link self-link.hard
others[self-link]='its own backing file'
refers two-a two-b --backing
refers two-b two-a --backing
others[two-a]='already in use in the chain'
others[two-b]='already in use in the chain'
refers three-a three-b --backing
refers three-b three-c --backing
refers three-c three-a --backing
refers to-three three-b --backing
for i in a b c; do
    others[three-$i]='already in use in the chain'
done
others[to-three]='already in use in the chain'
refers data-self data-self --data-file
others[data-self]='its own data file'
refers data-self-link data-self-link.hard --data-file
ln data-self-link data-self-link.hard
others[data-self-link]='its own data file'
refers data-backing base.raw --data-file
set_names data-backing --backing base.raw --format raw
others[data-backing]='already in use in the chain'
truncate -s 1M below.data
refers data-below below.data --data-file
set_names data-below --backing data-of-above --format qcow2
refers data-of-above data-below --data-file
others[data-below]='already in use in the chain'
refers data-empty x --data-file
set_names data-empty --data-file '\x00'
others[data-empty]='zero byte'
refers data-none x --data-file
set_names data-none --data-file ''
others[data-none]='is empty'

cat >"$tmp/traced" <<END
#!/bin/sh
exec strace -D -f -y -qq -o "$tmp/trace" \
    -e trace=open,openat,openat2,creat,connect,execve $NBDKIT "\$@"
END
chmod +x "$tmp/traced"

# check_trace: checks all opens since the first client connected.
check_trace ()
{
    "$PYTHON" - "$tmp/trace" "$images" <<'END'
import re
import sys

# Files that the C library opens by itself.
LIBRARY = ("/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu/online")
trace, images = sys.argv[1:]
opened = 0
serving = False
for line in open(trace, errors="replace"):
    serving = serving or "backing-0" in line
    call = re.match(r"\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*) = "
                    r"(-?\d+)(?:<(.*)>)?", line)
    assert call or "unfinished" in line or \
        line.split()[1].startswith(("---", "+++")), line
    if not serving or not call:
        continue
    name, arguments, result, path = call.groups()
    assert name not in ("connect", "execve", "creat"), line
    if int(result) < 0 or path in LIBRARY:
        continue
    opened += 1
    real = path.split(" (deleted)")[0]
    assert real == images or real.startswith(images + "/"), line
    # Not opened: harmless.
    if "O_PATH" in arguments:
        continue
    kind = real[len(images) + 1:]
    assert kind not in ("fifo", "socket", "zero", "folder"), line
assert opened > 50, opened
END
}

for mode in '' -r; do
    echo "dir=, $mode"
    NBDKIT=$tmp/traced
    start_nbdkit $mode --filter="$filter" file dir="$images" \
        qcow2-follow="$images"
    NBDKIT=nbdkit
    touch "$tmp/started"
    for i in "${!names[@]}"; do
        for kind in backing data; do
            timeout "$patience" "$PYTHON" "$nbddir/nbdtool.py" fails \
                "$(export_uri "$kind-$i")" >/dev/null ||
                fail "$kind $i '${names[i]}' was not refused, or hangs"
            grep -E -q "$kind-$i: .*(${reasons[i]})" "$log" ||
                fail "$kind $i '${names[i]}': $(grep -e "$kind-$i: " "$log")"
        done
    done
    for export in "${!others[@]}"; do
        timeout "$patience" "$PYTHON" "$nbddir/nbdtool.py" fails \
            "$(export_uri "$export")" >/dev/null ||
            fail "$export was not refused, or hangs"
        grep -E -q "/$export: .*(${others[$export]})" "$log" ||
            fail "$export: $(grep -e "/$export: " "$log")"
    done
    stop_nbdkit
    check_trace
done

echo "and without a folder to follow names in: nothing is even looked up"
NBDKIT=$tmp/traced
start_nbdkit --filter="$filter" file dir="$images"
NBDKIT=nbdkit
for i in "${!names[@]}"; do
    nbdtool fails "$(export_uri "backing-$i")" >/dev/null
done
stop_nbdkit
check_trace
if grep -q openat2 "$tmp/trace"; then
    fail "a name was looked up"
fi
