# SPDX-License-Identifier: BSD-3-Clause
# compressing.sh - copies a disk into a new image with qcow2-compress, through
# some plugin, and counts the writes below; sourced.
# shellcheck shell=bash
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/remote.sh"
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/writing.sh"

disk_mib=12
image_mib=16            # these servers cannot make a file larger
request=$M
tables=6                # writes of them, by two commits, and of the header
least=150               # clusters that can be compressed

make_real "$tmp/disk.raw" $((disk_mib * M))
# The last part is zeros, and there are some in front of it.
truncate -s $(((disk_mib - 2) * M)) "$tmp/disk.raw"
truncate -s $((disk_mib * M)) "$tmp/disk.raw"
dd if=/dev/zero of="$tmp/disk.raw" bs=64k seek=40 count=8 conv=notrunc \
    status=none

# fill WHAT PLUGIN...: copy the disk into the plugin's file, which is empty.
fill ()
{
    local what=$1 clients=$(((disk_mib - 2) * M / request)) asked

    shift
    rm -f "$tmp/requests"
    seen=0
    start_nbdkit --filter="$filter" --filter=log "$@" \
        logfile="$tmp/requests" qcow2-create=${disk_mib}M qcow2-compress=on
    nbdinfo --size "$uri" >"$tmp/size"          # it is made now
    [ "$(cat "$tmp/size")" -eq $((disk_mib * M)) ] || fail "$what: another size"
    forget
    nbdcopy --flush --connections=1 --request-size="$request" "$tmp/disk.raw" \
        "$uri"
    asked=$(requests Write)
    stop_nbdkit
    echo "$what: $asked writes below for $clients requests of a client"
    [ "$asked" -le $((clients + tables)) ] || {
        logged | grep " Write id=" | head -n 40 >&2
        fail "$what: $asked writes, at most $((clients + tables)) expected"
    }
}

# judge WHAT FILE [NR]: QEMU finds the disk in it, compressed, at least so many
# clusters.
judge ()
{
    local nr least=${3:-$least}

    [ "$2" = "$tmp/disk.qcow2" ] || cp "$2" "$tmp/disk.qcow2"
    check_image
    nr=$(qemu-img check --output=json "$tmp/disk.qcow2" |
               "$PYTHON" -c 'import json, sys
c = json.load(sys.stdin)
print(c.get("compressed-clusters", 0))')
    echo "$1: $nr clusters are compressed"
    [ "$nr" -ge "$least" ] || fail "$1: $nr clusters are compressed"
}

# empty FILE: of this size, for a server to write to.
empty ()
{
    rm -f "$1"
    truncate -s ${image_mib}M "$1"
}
