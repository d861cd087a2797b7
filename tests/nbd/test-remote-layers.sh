#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An overlay and its backing image on a web server, the latter served by a
# second nbdkit: the right data, and only the needed parts of each file, in few
# requests.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin curl

# The disk: 16 MiB of the backing image, of which the overlay replaces 2 MiB in
# one piece, 2 MiB in small pieces, and 2 MiB by zeros.
mkdir "$tmp/www"
make_real "$tmp/base.raw" $((16 * M))
make_image "$tmp/www/plain.qcow2" "$tmp/base.raw" -S 0
make_image "$tmp/www/packed.qcow2" "$tmp/base.raw" -c
make_overlay ()         # BASE
{
    local i
    local -a commands=(-c 'write -q -P 1 4M 2M' -c 'write -q -z 12M 2M')

    for ((i = 0; i < 32; i++)); do
        commands+=(-c "write -q -P $((i + 2)) $((i * 512))k 64k")
    done
    qemu-img create -q -f qcow2 -b "$1.qcow2" -F qcow2 \
        "$tmp/www/over-$1.qcow2" 20M
    qemu-io -f qcow2 "${commands[@]}" "$tmp/www/over-$1.qcow2"
    qemu-img convert -f qcow2 -O raw "$tmp/www/over-$1.qcow2" \
        "$tmp/disk.raw"
}

# serve_overlay NAME: both files come over HTTP.
serve_overlay ()
{
    : >"$tmp/nginx/access"
    start_nbdkit -P base -r --filter=delay curl \
        "http://localhost/$1.qcow2" unix-socket-path="$tmp/nginx.sock" \
        delay-read=5ms
    start_nbdkit -r --filter="$filter" --filter=delay curl \
        "http://localhost/over-$1.qcow2" \
        unix-socket-path="$tmp/nginx.sock" delay-read=5ms \
        qcow2-backing="$uri" qcow2-check-at-start=off
}

stop_both ()
{
    stop_nbdkit
    stop_nbdkit base
}

# gets FILE: the number of GET requests for it since the server started.
gets ()
{
    sleep 0.2                   # The log is written after the answer.
    grep -c "\"GET /$1 .* 206 " "$tmp/nginx/access" || true
}

# sent FILE: the number of bytes of it that were sent.
sent ()
{
    sed -n "s|.*\"GET /$1 [^\"]*\" 206 \([0-9]*\) .*|\1|p" \
        "$tmp/nginx/access" | awk '{ sum += $1 } END { print sum + 0 }'
}

# most FILE REQUESTS BYTES WHAT
most ()
{
    local number bytes

    number=$(gets "$1")
    bytes=$(sent "$1")
    echo "$4: $1: $number requests, $bytes bytes"
    [ "$number" -gt 0 ] || broken "the access log is empty"
    [ "$number" -le "$2" ] || fail "$4: $1: at most $2 requests expected"
    [ "$bytes" -le "$3" ] || fail "$4: $1: at most $3 bytes expected"
}

start_nginx "$tmp/www"
for name in plain packed; do
    make_overlay $name
    over=over-$name.qcow2 base=$name.qcow2
    size=$(stat -c %s "$tmp/www/$base")
    over_size=$(stat -c %s "$tmp/www/$over")

    serve_overlay $name
    nbdtool read "$uri" 0 512 >"$tmp/sector"
    cmp -n 512 "$tmp/sector" "$tmp/disk.raw" || fail "$name: wrong data"
    stop_both
    # Its cluster is not in the head of the file.
    most $over 2 $((513 * 1024)) "open, and read a sector of the overlay"
    most $base 1 $((513 * 1024)) "open, and read a sector of the overlay"

    serve_overlay $name
    nbdtool read "$uri" $((64 * 1024)) 512 >"$tmp/sector"
    cmp "$tmp/sector" <(tail -c +65537 "$tmp/disk.raw" | head -c 512) ||
        fail "$name: wrong data"
    stop_both
    most $over 1 $((513 * 1024)) "open, and read a sector of the base"
    most $base 2 $((1537 * 1024)) "open, and read a sector of the base"

    serve_overlay $name
    # Newer nbdinfo connects twice, and opens both files twice.
    nbdtool map "$uri" >"$tmp/map"
    stop_both
    most $over 1 $((513 * 1024)) map
    most $base 1 $((513 * 1024)) map

    serve_overlay $name
    copy --connections=4
    stop_both
    # Pieces of the backing image lie between pieces of the overlay.
    most $over $((over_size * 12 / 10 / M + 20)) \
        $((over_size * 11 / 10 + 512 * 1024)) copy
    most $base $((size * 12 / 10 / M + 20)) \
        $((size * 11 / 10 + 512 * 1024)) copy
done

echo "the base is away for a while"
serve_overlay packed
client_reads ()
{
    nbdtool read "$uri" $((9 * M + 65536)) 65536 >"$tmp/piece"
    cmp "$tmp/piece" <(tail -c +$((9 * M + 65537)) "$tmp/disk.raw" |
        head -c 65536) || fail "wrong data"
}
mv "$tmp/www/packed.qcow2" "$tmp/www/away"
nbdtool fails "$uri" >/dev/null
mv "$tmp/www/away" "$tmp/www/packed.qcow2"
client_reads
