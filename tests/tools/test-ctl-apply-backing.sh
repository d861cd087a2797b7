#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl snapshot apply keeps bitmaps true on a backing file, whether options
# name it or not: what the disk and the snapshot have in common is known from
# the tables only if what is below them is.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io

img=$tmp/over.qcow2
base=$tmp/base.raw
qemu-img create -q -f raw "$base" 1M
qemu-io -f raw -c 'write -q -P 9 0 1M' "$base"

# The disk has one of these in each 64 KiB, and the snapshot another; of each
# pair, whether they differ over a backing file.
states=(none zero data)

# put STATE AT
put ()
{
    case $1 in
        zero) qemu-io -c "write -q -z $2 64k" "$img";;
        data) qemu-io -c "write -q -P 9 $2 64k" "$img";;
    esac
}

# marks: the numbers of the 64 KiB that the bitmap has.
marks ()
{
    run_ctl --output=json map --bitmap=b "$img"
    [ "$code" -eq 0 ] || fail "map --bitmap fails"
    "$PYTHON" -c '
import json, sys
print(*[g for e in json.load(sys.stdin) if e["present"]
        for g in range(e["start"] >> 16, (e["start"] + e["length"]) >> 16)])' \
            < "$out"
}

for options in cluster_size=64k cluster_size=1k \
               extended_l2=on,cluster_size=16k; do
    for given in '' "--backing=$base"; do
        rm -f "$img"
        qemu-img create -q -f qcow2 -o "$options" -b "$base" -F raw "$img" 2M
        at=0
        want=
        # The second nine are past the end of the backing file.
        for start in 0 16; do
            at=$start
            for then in "${states[@]}"; do
                for _ in "${states[@]}"; do
                    put "$then" $((at * 65536))
                    at=$((at + 1))
                done
            done
        done
        works snapshot create "$img" s
        for start in 0 16; do
            at=$start
            for then in "${states[@]}"; do
                for now in "${states[@]}"; do
                    # "none" after something else is not to be had.
                    if [ "$now" != none ]; then
                        put "$now" $((at * 65536))
                        case $then,$now,$start in
                            zero,zero,*) ;;
                            none,zero,16) ;;
                            *) want+=" $at";;
                        esac
                    fi
                    at=$((at + 1))
                done
            done
        done
        works bitmap add "$img" b
        # shellcheck disable=SC2086     # None or one.
        works snapshot apply $given "$img" s
        qemu-img check -q "$img" || fail "qemu-img check"
        have=$(marks)
        for at in $want; do
            case " $have " in
                *" $at "*) ;;
                *) fail "$options $given: $at is not in the bitmap ($have)";;
            esac
        done
        # If all is known, no more than that.
        [ -z "$given" ] || [ "$have" = "${want# }" ] ||
            fail "$options: the bitmap has $have, and not$want"
    done
done
