# SPDX-License-Identifier: BSD-3-Clause
# remote.sh - an image behind a layer that is slow to answer, and how much is
# asked of it; sourced.
# shellcheck shell=bash
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/requests.sh"

requires_qemu
requires_libnbd
requires_plugin file
requires_filter delay

# shellcheck disable=SC2034         # For the tests.
M=$((1024 * 1024))

# start_remote DELAY FILE [ARGUMENT...]: serve an image file, each read of
# which takes that long, and log the reads.  With the array 'between' set,
# these filters lie between ours and the log.  What is counted is what clients
# cause, so the image is not looked at before they come.
between=()
start_remote ()
{
    local delay=$1

    shift
    seen=0
    rm -f "$tmp/requests"
    start_nbdkit -r -v -D qcow2.stats=1 -D nbdkit.backend.datapath=0 \
        --filter="$filter" "${between[@]}" --filter=log --filter=delay \
        file "$@" delay-read="$delay" logfile="$tmp/requests" \
        qcow2-check-at-start=off
}

# The sum of what these requests asked for; log lines have it in hex.
requested_bytes ()
{
    logged | "$PYTHON" -c '
import re
import sys
print(sum(int(n, 16) for n in
          re.findall(r" Read id=.* count=(0x[0-9a-f]+)", sys.stdin.read())))'
}

# bytes_at_most NUMBER WHAT
bytes_at_most ()
{
    local bytes

    bytes=$(requested_bytes)
    echo "$2: $bytes bytes were read, at most $1 expected"
    [ "$bytes" -le "$1" ] || fail "$2: $bytes bytes were read"
}

# stat_of TEXT FIELD: a counter that the last server printed when it ended,
# of the line that has the text; the sum if there are several.
stat_of ()
{
    { grep -E "qcow2: stats: .*$1" "$log" || true; } |
        sed -n "s/.* $2=\([0-9]*\).*/\1/p" |
        awk '{ sum += $1 } END { print sum + 0 }'
}

# make_real FILE SIZE: what a system's disk has, from the machine's own
# programs and libraries.
make_real ()
{
    find /usr/bin /usr/lib -xdev -type f -size +4k -print0 2>/dev/null |
        LC_ALL=C sort -z | { xargs -0 cat 2>/dev/null || true; } |
        head -c "$2" >"$1" || true
    [ "$(stat -c %s "$1")" -eq "$2" ] || skip "no $2 bytes of programs here"
}

# copy [nbdcopy's options...]: the disk, which must be $tmp/disk.raw.
copy ()
{
    rm -f "$tmp/copy"
    nbdcopy "$@" "$uri" "$tmp/copy"
    cmp "$tmp/copy" "$tmp/disk.raw" || fail "wrong data"
}

# remote_images ARGUMENT...: see there.
remote_images ()
{
    "$PYTHON" "$nbddir/remote_images.py" "$@"
}

# make_served_images: a disk of 16 MiB, and images of it in $tmp/www, plain.qcow2 and
# packed.qcow2, for a server that the test starts.
make_served_images ()
{
    make_real "$tmp/disk.raw" $((16 * M))
    mkdir "$tmp/www"
    make_image "$tmp/www/plain.qcow2" "$tmp/disk.raw" -S 0
    make_image "$tmp/www/packed.qcow2" "$tmp/disk.raw" -c
}

# port NUMBER: one that is likely to be free; each number another one.
port ()
{
    echo $((20000 + (RANDOM + $1) % 20000))
}

# check WHAT ARGUMENT...: serve one of them with these arguments, and copy.
check ()
{
    local what=$1

    shift
    start_nbdkit --filter="$filter" "$@"
    copy --connections=4
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 50 --only-random
    stop_nbdkit
    echo "$what: good"
}
