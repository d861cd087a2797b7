#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Passphrases: all forms of the parameter, one for each encrypted image of a
# chain, and none in the log.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

run_nbdkit --dump-plugin --filter="$filter" null >"$tmp/dump"
! grep -q '^qcow2_luks=no' "$tmp/dump" || skip "built without nettle"
cd "$images"
make_disk "$tmp/truth.raw" 2000000 65536

# encrypted NAME SECRET [qemu-img create's options...]: QEMU cannot measure a
# key derivation that is faster than the kernel's tick, as with sha256.
encrypted ()
{
    local name=$1 secret=$2

    shift 2
    qemu-img create -q -f qcow2 --object "secret,id=s,data=$secret" \
        -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \
        -o encrypt.hash-alg=sha512 "$@" "$name" 3M 2>"$tmp/create" ||
        broken "$(cat "$tmp/create")"
}

# write IMAGE SECRET OPERATION...: QEMU writes.
write ()
{
    local image=$1 secret=$2

    shift 2
    qemu-io --object "secret,id=s,data=$secret" "$@" --image-opts \
        "driver=qcow2,encrypt.key-secret=s,file.filename=$image" >/dev/null
}

qemu-img create -q -f qcow2 -b "$tmp/truth.raw" -F raw plain.qcow2 3M
encrypted disk.qcow2 first-secret
write disk.qcow2 first-secret -c 'write -P 9 100k 300k'
{
    head -c 102400 /dev/zero
    head -c 307200 /dev/zero | tr '\0' '\11'
    head -c $((3 * 1024 * 1024 - 409600)) /dev/zero
} >"$tmp/truth.raw"
printf 'first-secret\nrest is ignored\n' >secret
printf 'wrong' >wrong

echo "in a file, inline, and from a descriptor"
serves file disk.qcow2 qcow2-passphrase=+secret
! grep -q first-secret "$tmp/last.log" || fail "the secret was logged"
serves file disk.qcow2 qcow2-passphrase=first-secret
serves file disk.qcow2 qcow2-passphrase=-7 7<secret
! grep -q first-secret "$tmp/last.log" || fail "the secret was logged"
name=disk.qcow2
serves file dir=. qcow2-passphrase=+secret
name=

echo "missing, wrong, or not to be read"
says 'encrypted with LUKS; give its passphrase with qcow2-passphrase' \
    file disk.qcow2
says '[pP]assphrase' file disk.qcow2 qcow2-passphrase=+wrong
! grep -E -i -e 'first-secret|: wrong' "$tmp/says.log" | grep -v 'config key' ||
    fail "a secret was logged"
refused 'the file with the passphrase, none, cannot be opened: No such file' \
    --filter="$filter" file disk.qcow2 qcow2-passphrase=+none
refused 'the number of a descriptor' --filter="$filter" file disk.qcow2 \
    qcow2-passphrase=-first-secret
! grep -q first-secret "$tmp/refused.log" || fail "a secret was logged"
refused 'descriptors 0, 1 and 2' --filter="$filter" file disk.qcow2 \
    qcow2-passphrase=-1
refused 'cannot be read: Bad file descriptor' --filter="$filter" \
    file disk.qcow2 qcow2-passphrase=-77
head -c 70000 /dev/zero | tr '\0' x >long
refused 'longer than 65535 bytes' --filter="$filter" file disk.qcow2 \
    qcow2-passphrase=+long
# There is no terminal to ask on.  The shell would inherit a sanitizer's
# library.
if [ -z "$instrumented" ]; then
    cat >"$tmp/detached" <<END
#!/bin/sh
exec setsid -w $NBDKIT "\$@"
END
    chmod +x "$tmp/detached"
    NBDKIT=$tmp/detached refused 'tty|readpassphrase' --filter="$filter" \
        file disk.qcow2 qcow2-passphrase=-
fi

echo "the key is derived once, however many clients come and go"
# The key cannot be derived again once the key material is destroyed.
cp disk.qcow2 again.qcow2
header=$(LC_ALL=C grep -abo LUKS again.qcow2 | head -n 1 | cut -d : -f 1)
start_nbdkit --filter="$filter" file again.qcow2 qcow2-passphrase=+secret
[ "$(nbdinfo --size "$uri")" -eq $((3 * 1024 * 1024)) ] || fail "other size"
dd if=/dev/zero of=again.qcow2 bs=4k seek=$((header / 4096 + 1)) count=8 \
    conv=notrunc status=none
[ "$(nbdinfo --size "$uri")" -eq $((3 * 1024 * 1024)) ] || fail "other size"
stop_nbdkit
says 'no key slot' file again.qcow2 qcow2-passphrase=+secret

echo "chains: one for each encrypted image, the last for all that follow"
encrypted base.qcow2 base-secret
write base.qcow2 base-secret -c 'write -P 1 0 3M'
qemu-img create -q -u -f qcow2 -b base.qcow2 -F qcow2 middle.qcow2 3M
encrypted top.qcow2 top-secret
write top.qcow2 top-secret -c 'write -P 2 1M 1M'
set_names top.qcow2 --backing middle.qcow2 --format qcow2
{
    head -c 1M /dev/zero | tr '\0' '\1'
    head -c 1M /dev/zero | tr '\0' '\2'
    head -c 1M /dev/zero | tr '\0' '\1'
} >"$tmp/truth.raw"
serves file top.qcow2 qcow2-follow=. qcow2-passphrase=top-secret \
    qcow2-passphrase=base-secret
serves file top.qcow2 qcow2-follow=. qcow2-passphrase=top-secret \
    qcow2-passphrase=base-secret qcow2-passphrase=unused
says 'base\.qcow2: .*[pP]assphrase' file top.qcow2 qcow2-follow=. \
    qcow2-passphrase=top-secret
says 'top\.qcow2: .*[pP]assphrase' file top.qcow2 qcow2-follow=. \
    qcow2-passphrase=base-secret qcow2-passphrase=top-secret
head -c 3M /dev/zero | tr '\0' '\1' >"$tmp/truth.raw"
serves file middle.qcow2 qcow2-follow=. qcow2-passphrase=base-secret
encrypted same.qcow2 base-secret -u -b base.qcow2 -F qcow2
serves file same.qcow2 qcow2-follow=. qcow2-passphrase=base-secret

echo "in one server, a layer for each way to open it"
start_nbdkit -r -v --filter="$filter" file dir=. qcow2-follow=. \
    qcow2-passphrase=base-secret qcow2-passphrase=base-secret
for export in middle.qcow2 same.qcow2; do
    nbdtool compare "$(export_uri $export)" "$tmp/truth.raw" --reads 10
done
stop_nbdkit

# locks_memory PIDFILE: true if the process locks memory.
locks_memory ()
{
    [ -s "$1" ] && grep -q '^VmLck:.*[1-9]' "/proc/$(cat "$1")/status"
}

# None if no memory may be locked; sanitizers lock nothing.
if [ "$(ulimit -l)" != 0 ] && [ -z "$instrumented" ]; then
    echo "secrets are locked in memory, also in a daemon"
    run_nbdkit -P "$tmp/daemon.pid" -U "$tmp/daemon" --filter="$filter" \
        file middle.qcow2 qcow2-follow=. qcow2-passphrase=base-secret
    # It goes on starting after its parent has ended.
    wait_for locks_memory "$tmp/daemon.pid"
    kill "$(cat "$tmp/daemon.pid")"
fi

# in_dump PID TEXT: how often the text is in memory that a core dump would
# include.
in_dump ()
{
    "$PYTHON" - "$@" <<'END'
import re
import sys
pid, text = sys.argv[1], sys.argv[2].encode()
found = 0
with open(f"/proc/{pid}/smaps") as smaps, \
        open(f"/proc/{pid}/mem", "rb", 0) as memory:
    place = None
    for line in smaps:
        match = re.match("([0-9a-f]+)-([0-9a-f]+) r", line)
        if match:
            place = [int(number, 16) for number in match.groups()]
        elif re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            place = None
        elif line.startswith("VmFlags:") and place and " dd" not in line:
            try:
                memory.seek(place[0])
                found += memory.read(place[1] - place[0]).count(text)
            except (OSError, OverflowError):
                continue
print(found)
END
}

# A sanitizer uses too much memory, and keeps freed blocks for long.
if [ -z "$instrumented" ]; then
    echo "a core dump has no passphrase"
    start_nbdkit --filter="$filter" file disk.qcow2 qcow2-passphrase=+secret
    [ "$(nbdinfo --size "$uri")" -eq $((3 * 1024 * 1024)) ] || fail "other size"
    requires test -r "/proc/$pid/mem"
    [ "$(in_dump "$pid" qcow2-passphrase)" != 0 ] || fail "nothing was looked at"
    number=$(in_dump "$pid" first-secret)
    [ "$number" = 0 ] || fail "the passphrase is in memory $number times"
    stop_nbdkit
    start_nbdkit --filter="$filter" file disk.qcow2 qcow2-passphrase=-7 7<secret
    [ "$(nbdinfo --size "$uri")" -eq $((3 * 1024 * 1024)) ] || fail "other size"
    number=$(in_dump "$pid" first-secret)
    [ "$number" = 0 ] || fail "the passphrase is in memory $number times"
    stop_nbdkit
fi
