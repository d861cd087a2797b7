#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Backing files that parameters name: chains, formats, versions, lengths.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
make_base base.raw 3000321
overlay over.qcow2 base.raw raw 4M
overlay top.qcow2 over.qcow2 qcow2 2M -o cluster_size=512
truth top.qcow2

echo "from the top downwards, reading and for writing"
serves -r file top.qcow2 qcow2-backing=over.qcow2 qcow2-backing=base.raw
serves file top.qcow2 qcow2-backing=over.qcow2 qcow2-backing=base.raw
serves -r file top.qcow2 qcow2-backing="$images/over.qcow2" qcow2-follow=.

echo "the parameters' files, whatever the names of those in the header"
mkdir -p away/deep
mv over.qcow2 away/deep/other
mv base.raw away/content
serves file top.qcow2 qcow2-backing=away/deep/other \
    qcow2-backing=away/deep/../content
(cd away && serves file ../top.qcow2 qcow2-backing=deep/other \
     qcow2-backing=content)
ln -s deep/other away/link
serves file top.qcow2 qcow2-backing=away/link qcow2-backing=away/content

echo "a daemon has another current folder"
set_nbdkit_command
(cd away && "${nbdkit_command[@]}" -P "$tmp/daemon.pid" -U "$tmp/daemon.sock" \
     --filter="$filter" file ../top.qcow2 qcow2-backing=deep/other \
     qcow2-backing=content)
for ((i = 0; i < patience * 20; i++)); do
    [ ! -s "$tmp/daemon.pid" ] || break
    sleep 0.05
done
cleanup_fn kill "$(cat "$tmp/daemon.pid")"
nbdtool compare "$(export_uri "" daemon)" "$tmp/truth.raw" --reads 40

echo "the format: the header's, if it has one"
mv away/content base.raw
mv away/deep/other over.qcow2
set_names over.qcow2 --format ''
args=(file top.qcow2 qcow2-backing=over.qcow2 qcow2-backing=base.raw)
says 'does not say which format its backing file .*/base\.raw has.*qcow2-backing-format' \
    "${args[@]}"
serves "${args[@]}" qcow2-backing-format=qcow2 qcow2-backing-format=raw
says 'does not say which format' "${args[@]}" qcow2-backing-format=qcow2
for format in raw file host_device nbd; do
    set_names over.qcow2 --format $format
    serves "${args[@]}"
done
for format in vmdk luks qcow2x ra 'raw\x00' https; do
    set_names over.qcow2 --format $format
    says "is of format '.*', and only raw and qcow2" "${args[@]}"
done
serves "${args[@]}" qcow2-backing-format=qcow2 qcow2-backing-format=raw

echo "for a file that a parameter names, the parameter's"
set_names over.qcow2 --format qcow2
serves "${args[@]}" qcow2-backing-format=qcow2 qcow2-backing-format=raw
says 'backing file .*/base\.raw is no qcow2 image' "${args[@]}"

echo "for one that the image names, both"
says 'says that its backing file .*/base\.raw is of format .qcow2., but' \
    file top.qcow2 qcow2-follow=. qcow2-backing-format=qcow2 \
    qcow2-backing-format=raw
set_names over.qcow2 --format raw
serves file top.qcow2 qcow2-follow=. qcow2-backing-format=qcow2 \
    qcow2-backing-format=raw

echo "a raw file is never looked at: it may look like an image"
cp top.qcow2 base.raw
truth over.qcow2
serves file over.qcow2 qcow2-backing=base.raw

echo "versions 1 and 2, and a base that is longer"
make_base content.raw 5000000 7
qemu-img convert -f raw -O qcow content.raw v1.qcow
qemu-img convert -f raw -O qcow2 -c -o compat=0.10 content.raw v2.qcow2
overlay over1.qcow2 v1.qcow qcow 3M
overlay over2.qcow2 v2.qcow2 qcow2 3M -o compat=0.10
qemu-img create -q -f qcow -b content.raw -F raw old.qcow
qemu-io -f qcow -c 'write -q -P 3 0 64k' old.qcow
for i in 1 2; do
    truth over$i.qcow2
    serves file over$i.qcow2 qcow2-follow=.
done
truth old.qcow
says 'does not say which format' file old.qcow qcow2-backing=content.raw
serves file old.qcow qcow2-backing=content.raw qcow2-backing-format=raw

echo "writing to an overlay leaves its base alone"
cp over2.qcow2 disk.qcow2
truth over2.qcow2
cp "$tmp/truth.raw" "$tmp/disk.raw"
before=$(sha256sum v2.qcow2)
start_nbdkit --filter="$filter" file disk.qcow2 qcow2-follow=.
writetool "$uri" --raw "$tmp/disk.raw" w:100:1000:1 w:1M:2M:2 z:200000:70000 f
nbdtool compare "$uri" "$tmp/disk.raw" --reads 40
stop_nbdkit
check_image_of disk.qcow2
[ "$(sha256sum v2.qcow2)" = "$before" ] || fail "the base has changed"
