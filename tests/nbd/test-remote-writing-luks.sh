#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What is read ahead of an encrypted image that is being written to is never
# what was there before, nor noise, though writes of parts of sectors change
# all of the sector's bytes in the file.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=luks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks.sh"

make_real "$tmp/real.raw" $((16 * M))
for options in "$luks" "$legacy"; do
    encrypt 16M "$options"
    fill "$tmp/real.raw"
    start_writable 1ms file "$image" qcow2-passphrase=+"$secret"
    writing_client write $((15 * M)) 65536 mixed 0 $((16 * M)) 1
    stop_nbdkit
    [ "$(stat_of 'read ahead' used)" -gt $((4 * M)) ] ||
        fail "little was read ahead"
    qemu-img compare -q --image-opts "${key[@]}" "$(opened)" \
        "driver=raw,file.filename=$raw" || fail "the disk is another one"
done
