#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A lock that cannot be taken does not count as taken: if the kernel or the
# file system has no locks, nothing is written, nor read as if it were locked;
# and no other failed check of a file counts as passed.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

# Numbers of Linux.
setlk=fcntl:1:37
getlk=fcntl:1:36
EIO=5 EINVAL=22 EMFILE=24 EACCES=13 ENOLCK=37 ENOSYS=38 EOPNOTSUPP=95
open_reading=$((0x80900)) open_writing=$((0x80902))

cd "$images"
make_base base.raw 3000000
overlay top.qcow2 base.raw raw 4M
qemu-img create -q -f qcow2 -o data_file=disk.data data.qcow2 4M
truth top.qcow2
qemu-img convert -f qcow2 -O qcow2 top.qcow2 alone.qcow2
cp "$tmp/truth.raw" "$tmp/disk.raw"
mkdir folder
cp top.qcow2 base.raw folder

refuse_syscalls "$setlk=$ENOLCK"        # or skip
remedy='qcow2-lock=off'

reads ()
{
    serves -r "$@"
}

unchanged ()
{
    qemu-img compare -q -f qcow2 -F raw top.qcow2 "$tmp/disk.raw" ||
        fail "the image has been written to"
}

for errno in $ENOLCK $EIO $ENOSYS; do
    echo "a lock manager that is not there: error $errno"
    refuse_syscalls "$setlk=$errno"
    for parameters in "file top.qcow2 qcow2-follow=." \
            "file top.qcow2 qcow2-backing=base.raw" \
            "-r file top.qcow2 qcow2-backing=base.raw" \
            "file data.qcow2 qcow2-follow=." "-r file data.qcow2 qcow2-follow=."
    do
        # shellcheck disable=SC2086
        says "cannot be locked.*$remedy" $parameters
    done
    name=top.qcow2 says "cannot be locked.*$remedy" file dir=folder \
        qcow2-follow=folder
    serves file top.qcow2 qcow2-follow=. qcow2-lock=off
    reads file top.qcow2 qcow2-follow=. qcow2-lock=off
    name=top.qcow2 serves file dir=folder qcow2-follow=folder qcow2-lock=off
done
refuse_syscalls
unchanged

echo "locks that can be taken, but nobody says who else has one"
refuse_syscalls "$getlk=$ENOLCK"
says "cannot be locked.*$remedy" file top.qcow2 qcow2-follow=.
says "cannot be locked.*$remedy" -r file top.qcow2 qcow2-follow=.

echo "no locks at all: nobody has one, so who only reads goes on, and says it"
for errno in $ENOLCK $EINVAL $ENOSYS $EOPNOTSUPP; do
    refuse_syscalls "$setlk=$errno,$getlk=$errno"
    if [ "$errno" = $ENOLCK ]; then
        # This error means that there are locks, but not now.
        says "cannot be locked.*$remedy" -r file top.qcow2 qcow2-follow=.
    else
        reads file top.qcow2 qcow2-follow=.
        [ "$(grep -c 'top.qcow2: .*has no locks' "$tmp/last.log")" = 1 ] ||
            fail "not a word, or too many: $(cat "$tmp/last.log")"
    fi
    says "cannot be locked.*$remedy" file top.qcow2 qcow2-follow=.
    says "cannot be locked.*$remedy" file data.qcow2 qcow2-follow=.
done

echo "a file that cannot be opened to be locked is not locked"
refuse_syscalls "openat:2:$open_reading=$EMFILE,openat:2:$open_writing=$EMFILE"
says "cannot be opened to be locked.*$remedy" file top.qcow2 \
    qcow2-backing=base.raw
says "cannot be opened to be locked.*$remedy" -r file top.qcow2 \
    qcow2-backing=base.raw
start_nbdkit -r --filter="$filter" file alone.qcow2 qcow2-lock=off
nbdtool compare "$uri" "$tmp/disk.raw" --reads 40
stop_nbdkit

echo "nor one that may be locked for reading only"
refuse_syscalls "openat:2:$open_writing=$EACCES"
reads file top.qcow2 qcow2-backing=base.raw

echo "a file that cannot be looked at is not known to be no image"
refuse_syscalls "pread:2:4=$EIO"
says "cannot be looked at" -r file top.qcow2 qcow2-backing=base.raw
says "disk.data cannot be looked at" file data.qcow2 qcow2-follow=. \
    qcow2-lock=off
refuse_syscalls
start_nbdkit --filter="$filter" file alone.qcow2 qcow2-lock=off
mv alone.qcow2 gone.qcow2
ln -s alone.qcow2 alone.qcow2
nbdtool fails "$uri" >/dev/null
grep -q 'alone.qcow2: the file cannot be looked at' "$log" ||
    fail "no reason: $(cat "$log")"
stop_nbdkit
unchanged
