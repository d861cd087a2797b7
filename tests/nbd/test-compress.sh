#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2-compress: a mixed disk is copied into empty images, which QEMU, 7-Zip
# and libqcow read; also over a plugin that can do no more than write and flush.
# qcow2-detect-zeroes: zeros that are written take no space.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

M=$((1024 * 1024))
image=$tmp/disk.qcow2
mixed=$tmp/mixed.raw

# Files that can be compressed, with matches far apart, noise, zeros, and an
# end that is no whole cluster.
"$PYTHON" - "$mixed" <<'END'
import random, sys
r = random.Random(7)
words = [bytes(r.randrange(97, 123) for _ in range(r.randrange(3, 12))) + b" "
         for _ in range(3000)]
text = b"".join(r.choice(words) for _ in range(800000))[:5 << 20]
far = r.randbytes(20000)
with open(sys.argv[1], "wb") as f:
    f.write(text)
    f.write(bytes(3 << 20))
    f.write((far + far + far)[:65536] * 16)     # matches 20000 bytes back
    for i in range(24):                         # noise between text
        f.write(r.randbytes(65536))
        f.write(text[i * 65536 : (i + 1) * 65536])
    f.seek((20 << 20) - 512)
    f.write(text[:1000])
    f.truncate((20 << 20) + 1024)
END

# copied OPTIONS LEVEL: into an empty image with these options.
copied ()
{
    echo "options '$1', qcow2-compress=$2"
    new_image "$(stat -c %s "$mixed")" ${1:+-o "$1"}
    start_nbdkit --filter="$filter" file "$image" "qcow2-compress=$2"
    nbdcopy --flush "$mixed" "$uri"
    stop_nbdkit
    cp "$mixed" "$tmp/disk.raw"
    check_image
    [ "$(compressed_clusters)" -gt "${least:-50}" ] ||
        fail "only $(compressed_clusters) clusters are compressed"
}

# Programs that share no code with QEMU; what is missing is told once.
can_7z=$(type -P 7z || type -P 7zz) || echo "not run: 7z is not installed"
can_qcow=yes
/usr/bin/python3 -c 'import pyqcow' 2>/dev/null || {
    can_qcow=
    echo "not run: python3-libqcow is not installed"
}

# others_read [7z] [libqcow]: they find the disk in the image.
others_read ()
{
    local who

    for who; do
        case $who,$can_7z,$can_qcow in
        7z,?*,*)
            rm -rf "$tmp/7z"
            "$can_7z" e -y -o"$tmp/7z" "$image" >"$tmp/out" 2>&1 ||
                fail "7z: $(cat "$tmp/out")"
            cmp "$tmp"/7z/* "$mixed" || fail "7z reads other data"
            ;;
        libqcow,*,yes)
            /usr/bin/python3 - "$image" "$mixed" <<'END' || fail "libqcow: above"
import sys
import pyqcow
with open(sys.argv[2], "rb") as raw:
    expected = raw.read()
f = pyqcow.file()
f.open(sys.argv[1])
assert f.get_media_size() == len(expected)
assert f.read_buffer(len(expected)) == expected
END
            ;;
        esac
    done
}

compressed_clusters ()
{
    qemu-img check --output=json "$image" |
        "$PYTHON" -c 'import json, sys
print(json.load(sys.stdin).get("compressed-clusters", 0))'
}

size ()
{
    stat -c %s "$1"
}

copied "" on
ours=$(size "$image")
qemu-img convert -c -f raw -O qcow2 "$mixed" "$tmp/qemu.qcow2"
qemus=$(size "$tmp/qemu.qcow2")
# In few clusters what is left over in the last ones counts.
[ "$ours" -le $((qemus + qemus / 50 + M / 2)) ] ||
    fail "the image has $ours bytes, QEMU's $qemus"
qemu-img map --output=json "$image" | "$PYTHON" -c 'import json, sys
zeros = [e for e in json.load(sys.stdin) if e["zero"]]
assert any(e["start"] <= 5 << 20 and e["start"] + e["length"] >= 8 << 20
           for e in zeros), zeros'
qemu-io -r -c "read -v 0 16" "$image" >"$tmp/out"
others_read 7z libqcow

copied "" 1
others_read 7z libqcow
copied "" 12
others_read 7z libqcow
[ "$(size "$image")" -le "$ours" ] || fail "level 12 is larger"
copied refcount_bits=1 on
others_read 7z libqcow
copied refcount_bits=8,cluster_size=4k on
others_read 7z libqcow
copied compat=0.10 on
others_read 7z libqcow
copied extended_l2=on,cluster_size=128k on    # neither knows them, nor zstd
least=5 copied cluster_size=2M on
others_read 7z libqcow
copied compression_type=zstd on
copied compression_type=zstd 19

echo "all of it again, and parts, over what is compressed"
writetool_ranges=(w:0:100k:1 w:3M:1M:2 z:1M:300k w:12M:64k:3 w:12345:6789:4
    t:4M:1M w:64k:256k:5 f)
copied "" on
start_nbdkit --filter="$filter" file "$image" qcow2-compress=on
writetool "$uri" --raw "$tmp/disk.raw" "${writetool_ranges[@]}"
nbdtool compare "$uri" "$tmp/disk.raw"
stop_nbdkit
check_image
start_nbdkit --filter="$filter" file "$image" qcow2-compress=on
nbdcopy --flush "$mixed" "$uri"
nbdcopy --flush "$mixed" "$uri"
stop_nbdkit
cp "$mixed" "$tmp/disk.raw"
check_image
[ "$(size "$image")" -le $((3 * ours)) ] || fail "old streams keep their space"

echo "what clients are asked for"
start_nbdkit --filter="$filter" file "$image" qcow2-compress=on
preferred=$(nbdinfo --json "$uri" | "$PYTHON" -c 'import json, sys
print(json.load(sys.stdin)["exports"][0]["block_size_preferred"])')
[ "$preferred" -eq $((8 * 65536)) ] || fail "preferred: $preferred"
stop_nbdkit

if "$NBDKIT" --dump-plugin python >/dev/null 2>&1 && [ "$SANITIZER" = no ] &&
    [ -z "$VALGRIND" ]; then
    echo "a plugin that can only write and flush"
    cat >"$tmp/plugin.py" <<'END'
import os
import nbdkit

API_VERSION = 2
path = None


def config(key, value):
    global path
    path = value


def open(readonly):
    return os.open(path, os.O_RDWR)


def get_size(fd):
    return os.fstat(fd).st_size


def pread(fd, buf, offset, flags):
    buf[:] = os.pread(fd, len(buf), offset)


def pwrite(fd, buf, offset, flags):
    assert os.pwrite(fd, buf, offset) == len(buf)


def flush(fd, flags):
    os.fsync(fd)


def can_multi_conn(fd):
    return True


def close(fd):
    os.close(fd)
END
    new_image "$(size "$mixed")"
    truncate -s 40M "$image"
    start_nbdkit --filter="$filter" python "$tmp/plugin.py" image="$image" \
        qcow2-compress=on
    nbdcopy --flush "$mixed" "$uri"
    stop_nbdkit
    cp "$mixed" "$tmp/disk.raw"
    check_image
    [ "$(compressed_clusters)" -gt 50 ] || fail "nothing is compressed"
fi

echo "images that cannot have compressed clusters"
not_opened ()
{
    start_nbdkit --filter="$filter" file "$image" qcow2-compress=on "$@"
    ! nbdinfo "$uri" >"$tmp/out" 2>&1 || fail "it is opened for writing"
    stop_nbdkit
    grep -q 'compressed clusters cannot be written' "$log" ||
        fail "no message: $(cat "$log")"
    grep -q 'leave out qcow2-compress' "$log" || fail "no advice"
    start_nbdkit -r --filter="$filter" file "$image" qcow2-compress=on "$@"
    nbdinfo "$uri" >"$tmp/out"
    stop_nbdkit
}
new_image 8M -o data_file="$tmp/data,data_file_raw=on"
not_opened qcow2-data-file="$tmp/data"
new_image 8M --object secret,id=s,data=abc -o encrypt.format=luks \
    -o encrypt.key-secret=s -o encrypt.iter-time=10
not_opened qcow2-passphrase=abc

refused "qcow2-compress must be off, on, or a level" --filter="$filter" \
    file "$image" qcow2-compress=20
refused "qcow2-compress must be off, on, or a level" --filter="$filter" \
    file "$image" qcow2-compress=best
refused "qcow2-detect-zeroes must be off, on or unmap" --filter="$filter" \
    file "$image" qcow2-detect-zeroes=yes

echo "zeros that are written"
truncate -s 4M "$tmp/zeros"
for mode in off on unmap; do
    new_image 4M
    start_nbdkit --filter="$filter" file "$image" qcow2-detect-zeroes=$mode
    qemu-io -f raw -c 'write -P 0 0 4M' -c flush "$uri" >"$tmp/out"
    stop_nbdkit
    check_image
    case $mode in
    off) [ "$(size "$image")" -gt $((4 * M)) ] || fail "not written" ;;
    *) [ "$(size "$image")" -lt $((2 * M)) ] || fail "$mode: space was taken" ;;
    esac
    # Over data: with 'on' it keeps its space.
    new_image 4M
    start_nbdkit --filter="$filter" file "$image" qcow2-detect-zeroes=$mode
    writetool "$uri" --raw "$tmp/disk.raw" w:0:4M:1 f
    qemu-io -f raw -c 'write -P 0 0 4M' -c flush "$uri" >"$tmp/out"
    stop_nbdkit
    cp "$tmp/zeros" "$tmp/disk.raw"
    check_image
    allocated=$(qemu-img map --output=json "$image" | "$PYTHON" -c '
import json, sys
print(sum(e["length"] for e in json.load(sys.stdin) if "offset" in e))')
    case $mode in
    unmap) [ "$allocated" -eq 0 ] || fail "unmap: $allocated keep space" ;;
    *) [ "$allocated" -eq $((4 * M)) ] || fail "$mode: $allocated keep it" ;;
    esac
done
