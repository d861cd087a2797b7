#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# No other file is opened because an image names it.  The message names the
# file and the parameter; senseless parameters are refused.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
make_base base.raw 3000000
overlay over.qcow2 base.raw raw 4M
overlay top.qcow2 over.qcow2 qcow2 4M
qemu-img create -q -f qcow2 -o data_file=data.raw data.qcow2 1M
qemu-img create -q -f qcow2 plain.qcow2 1M

echo "the name, and what to give"
for r in '' -r; do
    says "over.qcow2: .*backing file is named 'base\.raw'.*qcow2-backing=FILE.*qcow2-follow=DIR" \
        $r file over.qcow2
    says "data.qcow2: .*data file is named 'data\.raw'.*qcow2-data-file=FILE.*qcow2-follow=DIR" \
        $r file data.qcow2
done
name=over.qcow2 says "'base\.raw'.*; give qcow2-follow=DIR" file dir=.
says "top.qcow2: backing file .*/over\.qcow2: .*'base\.raw'.*qcow2-backing" \
    file top.qcow2 qcow2-backing=over.qcow2

echo "control characters do not get into the log"
cp over.qcow2 odd.qcow2
set_names odd.qcow2 --backing 'a\x1b[31m\x00b\\\x27\xff'
says "named 'a\\\\x1b\\[31m\\\\x00b\\\\x5c\\\\x27\\\\xff'" file odd.qcow2
name=$(printf 'x%.0s' {1..1023})
set_names odd.qcow2 --backing "$name"
name=
says "named 'x{100,}\\.\\.\\.'" file odd.qcow2

echo "more than there is"
says 'has no backing file, but qcow2-backing was given' \
    file plain.qcow2 qcow2-backing=base.raw
says 'chain has 1 backing file, but qcow2-backing was given 2 times' \
    file over.qcow2 qcow2-backing=base.raw qcow2-backing=base.raw
says 'has no data file, but qcow2-data-file was given' \
    file over.qcow2 qcow2-backing=base.raw qcow2-data-file=data.raw

echo "what cannot be opened"
says '/none\.raw cannot be opened: No such file' \
    file over.qcow2 qcow2-backing=none.raw
mkfifo fifo
mkdir folder
for what in fifo folder /dev/zero /dev/null; do
    says 'neither a regular file nor a block device' \
        file over.qcow2 qcow2-backing=$what
    says 'neither a regular file nor a block device' \
        file data.qcow2 qcow2-data-file=$what
done
says 'own backing file' file over.qcow2 qcow2-backing=over.qcow2
ln over.qcow2 link.qcow2
says 'own backing file' file over.qcow2 qcow2-backing=link.qcow2
says 'own data file' file data.qcow2 qcow2-data-file=data.qcow2
says 'already in use in the chain' file top.qcow2 \
    qcow2-backing=over.qcow2 qcow2-backing=top.qcow2

echo "parameters that cannot be right"
refused 'qcow2-backing is for a single image.*dir=.*qcow2-follow' \
    --filter="$filter" file dir=. qcow2-backing=base.raw
refused 'qcow2-data-file is for a single image.*dir=' \
    --filter="$filter" file dir=. qcow2-data-file=data.raw
refused 'qcow2-backing is for a single image.*not known' \
    --filter="$filter" memory 1M qcow2-backing=base.raw
refused 'qcow2-backing-format must be raw or qcow2' \
    --filter="$filter" file over.qcow2 qcow2-backing-format=vmdk
refused 'qcow2-data-file can be given only once' --filter="$filter" \
    file data.qcow2 qcow2-data-file=data.raw qcow2-data-file=data.raw
refused 'qcow2-follow can be given only once' --filter="$filter" \
    file over.qcow2 qcow2-follow=. qcow2-follow=.
refused 'qcow2-follow: none: No such file' --filter="$filter" \
    file over.qcow2 qcow2-follow=none
refused 'qcow2-follow: base.raw: Not a directory' --filter="$filter" \
    file over.qcow2 qcow2-follow=base.raw
refused 'qcow2-backing: the value is empty' --filter="$filter" \
    file over.qcow2 qcow2-backing=
for uri in https://example.com/a ssh://h/a rbd://p/i file:///etc/passwd; do
    refused "neither a file nor an NBD URI" --filter="$filter" \
        file over.qcow2 qcow2-backing=$uri
done
refused 'export: needs nbdkit 1\.44|the same content under every export name' \
    --filter="$filter" file over.qcow2 qcow2-backing=export:base
