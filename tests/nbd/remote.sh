# SPDX-License-Identifier: BSD-3-Clause
# remote.sh - serves an image from a slow host, and counts requests to it;
# sourced.
# shellcheck shell=bash
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/requests.sh"

requires_qemu
requires_libnbd
requires_plugin file
requires_filter delay

# shellcheck disable=SC2034         # For the tests.
M=$((1024 * 1024))

# start_remote DELAY FILE [ARGUMENT...]: serve an image file with a delay for
# each read, and log the reads.  The array 'between' has filters between ours
# and the log. Only requests that clients cause are counted, so the check at
# the start is off.
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

# start_writable DELAY PLUGIN ARGUMENT...: like start_remote, for writing.
start_writable ()
{
    local delay=$1

    shift
    seen=0
    rm -f "$tmp/requests"
    start_nbdkit -D qcow2.stats=1 -v -D nbdkit.backend.datapath=0 \
        --filter="$filter" "${between[@]}" --filter=log --filter=delay \
        "$@" delay-read="$delay" logfile="$tmp/requests"
}

# writing_client COMMAND...: see remote_writing.py; sets the array 'reads'.
writing_client ()
{
    local counts

    counts=$("$PYTHON" "$nbddir/remote_writing.py" "$uri" "$tmp/disk.raw" \
                 "$tmp/requests" "$@") || fail "$*"
    # shellcheck disable=SC2034         # For the tests.
    mapfile -t reads <<<"$counts"
}

# The sum of the bytes of these requests; log lines have them in hex.
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

# stat_of TEXT FIELD: a counter that the last server logged at its end, in the
# lines with the text; the sum if there are several.
stat_of ()
{
    { grep -E "qcow2: stats: .*$1" "$log" || true; } |
        sed -n "s/.* $2=\([0-9]*\).*/\1/p" |
        awk '{ sum += $1 } END { print sum + 0 }'
}

# make_real FILE SIZE: contents like those of a system's disk, from the
# machine's own programs and libraries.
make_real ()
{
    find /usr/bin /usr/lib -xdev -type f -size +4k -print0 2>/dev/null |
        LC_ALL=C sort -z | { xargs -0 cat 2>/dev/null || true; } |
        head -c "$2" >"$1" || true
    [ "$(stat -c %s "$1")" -eq "$2" ] || skip "no $2 bytes of programs here"
}

# copy [nbdcopy's options...]: copy the disk, which must equal $tmp/disk.raw.
copy ()
{
    rm -f "$tmp/copy"
    nbdcopy "$@" "$uri" "$tmp/copy"
    cmp "$tmp/copy" "$tmp/disk.raw" || fail "wrong data"
}

# copy_took_few_requests FILE WHAT [AT-ONCE]: 1.2 reads for each MiB of the file,
# some to open it, and as many as nbdkit handles at once: on a busy machine its
# threads may all have asked for 256 KiB before any of them sees that others go
# on where it ends.  That is none where it handles one after the other.
copy_took_few_requests ()
{
    local size

    size=$(stat -c %s "$1")
    echo "$2: $(requests Read) requests for $size bytes"
    at_most $(((size + M) * 12 / 10 / M + 6 + ${3:-0})) Read "$2"
    bytes_at_most $((size + size / 5 + 2 * M)) "$2"
}

# remote_images ARGUMENT...: see remote_images.py.
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

# port NUMBER: a port that is likely to be free, another one for each number.
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
