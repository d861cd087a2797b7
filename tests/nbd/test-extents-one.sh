#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients that ask for one extent at a time, such as QEMU, of disks whose map
# comes from several files: overlays that are longer than their backing image,
# local or not, with holes of the files.  Other tests do the same for the
# images of the matrix, random chains and views.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

requires_plugin nbd
cd "$images"

# serve_layers PARAMETER...: serve $top, which QEMU opens by its name.
serve_layers ()
{
    truth "$top"
    start_nbdkit -r --filter="$filter" file "$top" "$@"
    by_qemu "$uri" "$tmp/truth.raw" -F qcow2 "$top"
    stop_nbdkit
    start_nbdkit --filter="$filter" file "$top" "$@"
    by_qemu "$uri" "$tmp/truth.raw"
    # Later clients get it, too.
    nbdtool compare "$uri" "$tmp/truth.raw" --reads 10
    stop_nbdkit
}

echo "longer than its backing image, which has several extents"
qemu-img create -q -f qcow2 cloud.qcow2 8M
qemu-io -f qcow2 -c 'write -q -P 1 0 1M' -c 'write -q -P 2 4M 2M' cloud.qcow2
qemu-img create -q -f qcow2 -b cloud.qcow2 -F qcow2 over.qcow2 12M
top=over.qcow2
serve_layers qcow2-backing=cloud.qcow2
serve_layers qcow2-follow=.

echo "a chain of such, each longer than the one before; the last is shorter"
for i in 1 2 3; do
    qemu-img create -q -f qcow2 -b "$top" -F qcow2 "over$i.qcow2" \
        $((12 + 2 * i))M
    qemu-io -f qcow2 -c "write -q -P $i $((10 + 2 * i))M 64k" "over$i.qcow2"
    top=over$i.qcow2
    serve_layers qcow2-follow=.
done
qemu-img create -q -f qcow2 -b "$top" -F qcow2 short.qcow2 7M
top=short.qcow2
serve_layers qcow2-follow=.

echo "over a raw file with holes, which ends in the middle of a sector"
truncate -s 9000321 raw
for at in 0 3 5 8; do
    dd if=/dev/urandom of=raw bs=1M seek=$at count=1 conv=notrunc \
        status=none iflag=fullblock
done
truncate -s 9000321 raw
qemu-img create -q -f qcow2 -b raw -F raw top.qcow2 12M
qemu-io -f qcow2 -c 'write -q -z 2M 64k' -c 'write -q -P 9 11M 1M' top.qcow2
top=top.qcow2
serve_layers qcow2-backing=raw

echo "where what is below is on an NBD server"
start_nbdkit -P remote -r file dir="$images"
serve_layers qcow2-backing="$(export_uri raw remote)"
stop_nbdkit remote

echo "preallocated clusters that are holes of a data file"
qemu-img create -q -f qcow2 -o preallocation=metadata,data_file=data \
    has-data.qcow2 16M
qemu-io -f qcow2 -c 'write -q -P 5 3M 1M' -c 'write -q -P 6 8M 64k' \
    has-data.qcow2
top=has-data.qcow2
serve_layers qcow2-data-file=data
