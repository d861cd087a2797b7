# SPDX-License-Identifier: BSD-3-Clause
# luks.sh - encrypted images, made, filled, checked and written to by QEMU;
# sourced by the tests of encryption.
#
# Owns      $image; $raw, the expected disk; $secret, a file with the
#           passphrase; $driver, QEMU's name for the image's format; $data, the
#           data file if there is one.
# shellcheck shell=bash
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/writing.sh"

run_nbdkit --dump-plugin --filter="$filter" null >"$tmp/dump"
! grep -q '^qcow2_luks=no' "$tmp/dump" || skip "built without nettle"

image=$tmp/disk.qcow2
raw=$tmp/disk.raw
secret=$tmp/secret
data=$tmp/data
driver=qcow2
passphrase='open Sesame 5'
printf '%s' "$passphrase" >"$secret"
# shellcheck disable=SC2034         # By who sources this; so is the next one.
luks=encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10
# shellcheck disable=SC2034
legacy=encrypt.format=aes,encrypt.key-secret=key

# ---- QEMU's stopwatch ------------------------------------------------------

# Before QEMU makes a key slot it measures how many iterations take a second,
# which takes seconds, or fails under load.  This clock advances by a second
# each time it is read; the key does not depend on it.
clock=
make_clock ()
{
    gcc -shared -fPIC -x c -o "$tmp/clock.so" - 2>/dev/null <<'END' || return 0
#include <string.h>
#include <sys/resource.h>
int getrusage (int who, struct rusage *usage);
int getrusage (int who, struct rusage *usage)
{
  static __thread long seconds;

  (void) who;
  memset (usage, 0, sizeof *usage);
  usage->ru_utime.tv_sec = ++seconds;
  return 0;
}
END
    clock=$tmp/clock.so
}
make_clock

# quick COMMAND...: run a command that makes key slots.
quick ()
{
    LD_PRELOAD=$clock "$@" 2>"$tmp/quick" || fail "$*: $(cat "$tmp/quick")"
}

# ---- Images ----------------------------------------------------------------

key=(--object "secret,id=key,file=$secret")

# The image, as QEMU opens it.
opened ()
{
    echo "driver=$driver,encrypt.key-secret=key,file.filename=$image"
}

# encrypt SIZE OPTIONS [qemu-img create's options...]: an empty image.
encrypt ()
{
    rm -f "$image" "$raw" "$data"
    quick qemu-img create -q -f "$driver" "${key[@]}" -o "$2" "${@:3}" \
        "$image" "$1"
    truncate -s "$1" "$raw"
}

# find_header: sets header_at and header_bytes, the place of the LUKS header in
# the image's file.
find_header ()
{
    # shellcheck disable=SC2034     # By who sources this.
    read -r header_at header_bytes < <("$PYTHON" -c '
import sys
import luks_headers
print(*luks_headers.find_header(sys.argv[1]))' "$image")
}

# fill FILE: write this to the disk.
fill ()
{
    cp "$1" "$raw"
    qemu-img convert -n -f raw --target-image-opts "${key[@]}" "$1" \
        "$(opened)"
}

# with_key COMMAND...: run commands of qemu-io on the disk.
with_key ()
{
    local -a commands=()
    local command

    for command; do
        commands+=(-c "$command")
    done
    qemu-io "${key[@]}" "${commands[@]}" --image-opts "$(opened)" \
        >"$tmp/qemu-io" 2>&1 ||
        fail "qemu-io: $(cat "$tmp/qemu-io")"
    # qemu-io's exit status may hide a failure.
    ! grep -q -i -e 'fail' -e 'error' "$tmp/qemu-io" ||
        fail "qemu-io: $(cat "$tmp/qemu-io")"
}

# by_qemu COMMAND...: the same, and also on the expected disk.
by_qemu ()
{
    local -a commands=()
    local command

    with_key "$@"
    for command; do
        # A raw file cannot be compressed.
        commands+=(-c "${command/ -c / }")
    done
    qemu-io -f raw "${commands[@]}" "$raw" >/dev/null
}

# what_qemu_reads: make QEMU's copy the expected disk.
what_qemu_reads ()
{
    qemu-img convert "${key[@]}" --image-opts -O raw "$(opened)" "$raw"
}

# judged: QEMU finds no errors, no leaks, and the expected disk.
judged ()
{
    if [ "$driver" != qcow ]; then
        qemu-img check -q "${key[@]}" --image-opts "$(opened)" \
            >"$tmp/check" 2>&1 ||
            fail "qemu-img check: $(cat "$tmp/check")"
    fi
    qemu-img compare -q "${key[@]}" --image-opts "$(opened)" \
        "driver=raw,file.filename=$raw" ||
        fail "QEMU does not find what was written"
}

# concealed: the image's files contain no plain bytes of the disk.
concealed ()
{
    local -a files=("$image")

    [ ! -e "$data" ] || files+=("$data")
    "$PYTHON" "$nbddir/plaintext.py" "$raw" "${files[@]}" ||
        fail "what was written can be read without the key"
}

# ---- The server -----------------------------------------------------------

# shellcheck disable=SC2120         # Often there is none.
serve_encrypted ()      # [ARGUMENT...]
{
    local -a arguments=("$@")

    [ ! -e "$data" ] || arguments+=(qcow2-data-file="$data")
    start_nbdkit --filter="$filter" file "$image" \
        qcow2-passphrase=+"$secret" "${arguments[@]}"
}

# same_over_nbd: clients read the expected disk.
same_over_nbd ()
{
    rm -f "$tmp/copy"
    nbdcopy "$uri" "$tmp/copy"
    cmp "$tmp/copy" "$raw" || fail "clients do not read what is on the disk"
}
