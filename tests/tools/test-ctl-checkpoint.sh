#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl checkpoint of images that nobody serves: all of them, or none, and
# QEMU finds what is marked, and the snapshots.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io
requires_program jq

# state FILE: snapshots, and bitmaps with their flags, by QEMU.
state ()
{
    qemu-img check -q "$1" || fail "qemu-img check of $1"
    qemu-img info --output=json "$1" |
        jq -r '[(.snapshots // [] | .[] | .name),
                (."format-specific".data.bitmaps // [] | .[] |
                 "\(.name):\(.flags | join ("+"))")] | join (" ")'
}

# has FILE TEXT
has ()
{
    local found

    found=$(state "$1")
    [ "$found" = "$2" ] || fail "$1 has '$found', not '$2'"
}

disks=("$tmp/a.qcow2" "$tmp/b.qcow2" "$tmp/c.qcow2")
for disk in "${disks[@]}"; do
    qemu-img create -q -f qcow2 "$disk" 8M
    qemu-io -c 'write -q -P 3 1M 64k' "$disk"
done

works checkpoint --snapshot one --add b1 "${disks[@]}"
for disk in "${disks[@]}"; do
    has "$disk" "one b1:auto"
    qemu-io -c 'write -q -P 4 2M 64k' "$disk"
done
works checkpoint --snapshot two --disable b1 --add b2 -g 4k "${disks[@]}"
for disk in "${disks[@]}"; do
    has "$disk" "one two b1: b2:auto"
    qemu-io -c 'write -q -P 5 3M 64k' "$disk"
    # What has changed between the two is marked, and the snapshot has it.
    if has_json; then
        [ "$("$ctl" map --bitmap b1 --output json "$disk" |
                 jq -c '[.[] | select(.present) | [.start, .length]]')" = \
          '[[2097152,65536]]' ] || fail "b1 of $disk"
    fi
    qemu-img convert -f qcow2 -O raw -l snapshot.name=two "$disk" "$tmp/raw"
    qemu-io -r -f raw -c 'read -q -P 4 2M 64k' -c 'read -q -P 0 3M 64k' \
        "$tmp/raw" >"$tmp/said"
    ! grep -q failed "$tmp/said" || fail "snapshot two of $disk"
done

# Nothing is changed if one of them cannot be.
works snapshot delete "$tmp/c.qcow2" one
works snapshot create "$tmp/c.qcow2" three
for arguments in "--snapshot three" "--snapshot four --add b1" \
        "--snapshot four --disable none"; do
    # shellcheck disable=SC2086         # several words
    fails 5 '[ac].qcow2: .*(already|no bitmap|exists)' checkpoint $arguments "${disks[@]}"
done
fails 5 'none.qcow2' checkpoint --snapshot four "${disks[@]}" "$tmp/none.qcow2"
fails 4 'a.qcow2' checkpoint --snapshot four "${disks[@]}" "$tmp/a.qcow2"
fails 1 '--snapshot NAME' checkpoint --add b3 "${disks[@]}"
fails 1 'is for --add' checkpoint --snapshot four -g 64k "${disks[@]}"
has "$tmp/a.qcow2" "one two b1: b2:auto"
has "$tmp/b.qcow2" "one two b1: b2:auto"
has "$tmp/c.qcow2" "two three b1: b2:auto"
