#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A backing file that is another export of the same plugin: of a folder of
# files, where it is locked and shared like any other file, and of an unknown
# plugin, under each thread model.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

requires_nbdkit 1 44
cd "$images"
make_base base.raw 3000000
overlay mid.qcow2 base.raw raw 4M
overlay top.qcow2 mid.qcow2 qcow2 4M
overlay twin.qcow2 mid.qcow2 qcow2 4M
truth top.qcow2

echo "files of a folder"
mkdir other
for mode in '' -r; do
    name=top.qcow2
    serves $mode file dir=. qcow2-backing=export:mid.qcow2 \
        qcow2-backing=export:base.raw
    serves $mode file dir=. qcow2-backing=export:mid.qcow2 qcow2-follow=.
done
says 'export:none cannot be opened' file dir=. qcow2-backing=export:none
says 'own backing file' file dir=. qcow2-backing=export:top.qcow2
says 'already in use in the chain' file dir=. \
    qcow2-backing=export:mid.qcow2 qcow2-backing=export:top.qcow2
says "named 'base\.raw', .*give qcow2-follow" file dir=. \
    qcow2-backing=export:mid.qcow2
name=

echo "locked, and not to be written to"
qemu-img convert -f raw -O qcow2 base.raw solo.qcow2
overlay a.qcow2 solo.qcow2 qcow2 4M
overlay b.qcow2 solo.qcow2 qcow2 4M
for lock in on off; do
    start_nbdkit -v --filter="$filter" file dir=. qcow2-lock=$lock \
        qcow2-backing=export:solo.qcow2
    uri=$(export_uri a.qcow2)
    connect_client
    if [ $lock = on ] &&
            qemu-io -f qcow2 -c 'write -q 0 4k' solo.qcow2 >/dev/null 2>&1; then
        fail "QEMU could write to it"
    fi
    nbdtool fails "$(export_uri solo.qcow2)" >/dev/null
    has_logged 'solo\.qcow2: cannot be opened for writing, because an image'
    nbdtool size "$(export_uri b.qcow2)" >/dev/null || fail "it is not shared"
    [ "$(grep -c 'export:solo.qcow2: opened' "$log")" = 1 ] ||
        fail "it was opened more than once"
    finish_client
    uri=$(export_uri solo.qcow2)
    connect_client
    nbdtool fails "$(export_uri a.qcow2)" >/dev/null
    has_logged 'export:solo\.qcow2 is open for writing in this server'
    finish_client
    stop_nbdkit
done

echo "a plugin that we do not know"
requires_plugin eval
for model in parallel serialize_requests serialize_all_requests; do
    # shellcheck disable=SC2016 # For the plugin's shell.
    start_nbdkit -v --filter="$filter" eval \
        thread_model="echo $model" list_exports='ls' \
        open='echo "$3"' \
        get_size="stat -c %s '$images'/\"\$2\"" \
        pread="dd if='$images'/\"\$2\" bs=64k skip=\$4 count=\$3 iflag=count_bytes,skip_bytes status=none" \
        qcow2-backing=export:mid.qcow2 qcow2-backing=export:base.raw
    nbdtool compare "$(export_uri top.qcow2)" "$tmp/truth.raw" --reads 10
    nbdtool fails "$(export_uri none)" >/dev/null
    stop_nbdkit
done
