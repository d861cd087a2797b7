#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Files of other formats: the message names the format and the remedy.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
make_disk disk.raw $((3 * 1024 * 1024)) 65536
make_image disk.qcow2 disk.raw
# Every cluster of this one compresses to about half.
head -c $((1536 * 1024)) /dev/urandom | od -An -v -tx1 | tr -d ' \n' >hex.raw
make_image packed.qcow2 hex.raw -c

# is_named FILE REGEX: with and without the check at the start.
is_named ()
{
    refused "qcow2: $1: not a qcow2 image: .*$2" --filter="$filter" file "$1"
    says "not a qcow2 image: .*$2" file "$1" qcow2-check-at-start=off
    ! grep -q 'leave out the qcow2 filter' "$log" || fail "$1: a wrong remedy"
}

echo "images in other formats"
for format in vmdk vpc vhdx vdi qed parallels; do
    qemu-img convert -f raw -O $format disk.raw "disk.$format" 2>"$tmp/out" || {
        echo "this qemu-img makes no $format"
        continue
    }
    is_named "disk.$format" "convert -f $format -O qcow2"
done
qemu-img create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 1M
is_named flat.vmdk 'a VMDK image'

echo "compressed, packed, encrypted as a whole"
for program in gzip bzip2 xz lzip; do
    [ -n "$(type -P $program)" ] || continue
    $program -c disk.qcow2 >"disk.$program"
    is_named "disk.$program" "--filter=qcow2 --filter=$program"
done
if [ -n "$(type -P zstd)" ]; then
    zstd -q disk.qcow2 -o disk.zst
    is_named disk.zst "zstd -d"
fi
tar cf disk.ova disk.qcow2
is_named disk.ova "--filter=tar, with tar-entry"
"$PYTHON" -c 'import zipfile
zipfile.ZipFile("disk.zip", "w").write("disk.qcow2")'
is_named disk.zip unzip
{ printf 'LUKS\xba\xbe\0\1'; head -c 4096 /dev/zero; } >disk.luks
is_named disk.luks '--filter=qcow2 --filter=luks'

echo "no images at all"
: >empty
is_named empty 'the file is empty'
head -c 100000 /dev/zero >zeros
refused 'zeros: not a qcow2 image: it begins with zeros; a download' \
    --filter="$filter" file zeros
printf '<!DOCTYPE html>\n<html><body>404</body></html>\n' >page
is_named page 'a web page'
refused 'disk.raw: not a qcow2 image: .*leave out the qcow2 filter' \
    --filter="$filter" file disk.raw

echo "what helps does help"
if "$NBDKIT" --dump-plugin --filter=gzip null >/dev/null 2>&1; then
    start_nbdkit -r --filter="$filter" --filter=gzip file disk.gzip
    nbdtool compare "$uri" disk.raw --reads 20
    stop_nbdkit
fi
if "$NBDKIT" --dump-plugin --filter=tar null >/dev/null 2>&1; then
    start_nbdkit -r --filter="$filter" --filter=tar file disk.ova \
        tar-entry=disk.qcow2
    nbdtool compare "$uri" disk.raw --reads 20
    stop_nbdkit
fi

# warns REGEX FILE: a client is served, and the log has a warning.
warns ()
{
    start_nbdkit -r --filter="$filter" file "$2"
    nbdtool size "$uri" >/dev/null
    grep -E -q "$2: warning: .*$1" "$log" || fail "no warning: $(cat "$log")"
    stop_nbdkit
}

echo "a download that was not finished"
# QEMU puts the L1 table first and then data; this one has it at its end.
"$PYTHON" - disk.qcow2 cut.qcow2 <<'END'
import struct
import sys
image = bytearray(open(sys.argv[1], "rb").read())
l1 = struct.unpack_from(">Q", image, 40)[0]
end = (len(image) + 65535) // 65536 * 65536
table = image[l1:l1 + 8]
image += bytes(end - len(image)) + table
struct.pack_into(">Q", image, 40, end)
open(sys.argv[2], "wb").write(image)
END
start_nbdkit -r --filter="$filter" file cut.qcow2
nbdtool compare "$uri" disk.raw --reads 10
! grep -q warning "$log" || fail "it is whole: $(cat "$log")"
stop_nbdkit
truncate -s 2M cut.qcow2
warns 'the file is cut off: it has 2097152 bytes, and its L1 table at' cut.qcow2
cp disk.qcow2 start.qcow2
truncate -s 1000 start.qcow2
warns 'the file is cut off: it has 1000 bytes' start.qcow2
# Images made by qemu-img are complete.
for options in cluster_size=512 cluster_size=2M refcount_bits=64,cluster_size=4k
do
    qemu-img create -q -f qcow2 -o "$options" whole.qcow2 10M
    start_nbdkit -r --filter="$filter" file whole.qcow2
    nbdtool size "$uri" >/dev/null
    [ ! -s "$log" ] || fail "$options: $(cat "$log")"
    stop_nbdkit
done

# An existing table refers to clusters past the end.
size=$(stat -c %s packed.qcow2)
truncate -s $((size / 2)) packed.qcow2
start_nbdkit -r --filter="$filter" file packed.qcow2
nbdtool fails "$uri" 0 $((3 * 1024 * 1024)) >/dev/null
grep -E -q 'the file ends in it, so it may|lies past the end of the file, which is' \
    "$log" || fail "no reason: $(cat "$log")"
nbdtool fails "$uri" $((2 * 1024 * 1024)) $((1024 * 1024)) >/dev/null
grep -q 'lies past the end of the file, which is cut off' "$log" ||
    fail "no reason: $(cat "$log")"
stop_nbdkit

echo "backing files that are no images, or not there"
make_base base.raw 2000000
overlay declared.qcow2 base.raw raw 4M
set_names declared.qcow2 --backing base.raw --format qcow2
says "$images/base.raw is no qcow2 image, although the image says so; if it is a raw disk, correct the image.*rebase" \
    file declared.qcow2 qcow2-follow=.
says 'although the image says so; if it is a raw disk, give qcow2-backing-format=raw' \
    file declared.qcow2 qcow2-backing=base.raw
says 'although qcow2-backing-format says so; .*give qcow2-backing-format=raw' \
    file declared.qcow2 qcow2-backing=base.raw qcow2-backing-format=qcow2
set_names declared.qcow2 --backing base.raw --format raw
truth declared.qcow2
set_names declared.qcow2 --backing base.raw --format qcow2
serves file declared.qcow2 qcow2-backing=base.raw qcow2-backing-format=raw
set_names declared.qcow2 --backing gone/base.raw --format raw
says "named 'gone/base.raw', which does not lead to .*there is no $images/gone/base.raw" \
    file declared.qcow2 qcow2-follow=.
says "$images/gone.raw cannot be opened: No such file" \
    file declared.qcow2 qcow2-backing=gone.raw

echo "snapshots of which one is not there"
qemu-img snapshot -c mon disk.qcow2
qemu-img snapshot -c tue disk.qcow2
for name in diff/mon..wed:wed diff/sun..tue:sun diff/sun..:sun diff/sun..wed:sun
do
    missing=${name#*:} name=${name%:*}
    says "names no difference: the image has no snapshot '$missing'" \
        file disk.qcow2
done
name=
