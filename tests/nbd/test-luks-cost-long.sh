#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A header that asks for the most work allowed, and a wrong passphrase: the
# work ends, and other images do not wait for it.
# shellcheck source=luks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks.sh"

skip_if_instrumented "it takes a minute already"

# costly FILE HASH: in two slots, 2^28 rounds together.
costly ()
{
    local slot

    encrypt 1M "$luks,encrypt.hash-alg=$2"
    find_header
    cp "$image" "$1"
    for slot in 0 1; do
        # Active, 2^26 - 501 iterations for 64 bytes; the salt stays.
        printf '\x00\xac\x71\xf3\x03\xff\xfe\x0b' |
            dd of="$1" bs=1 seek=$((header_at + 208 + 48 * slot)) \
                conv=notrunc status=none
    done
}

mkdir "$tmp/images"
for hash in sha256 sha512; do
    costly "$tmp/images/$hash" $hash
done
cp "$image" "$tmp/images/sound"
echo wrong >"$secret.wrong"
for hash in sha256 sha512; do
    start_nbdkit -v --filter="$filter" file dir="$tmp/images" \
        qcow2-passphrase=+"$secret.wrong"
    SECONDS=0
    timeout 900 "$PYTHON" "$nbddir/nbdtool.py" fails "$(export_uri $hash)" &
    client=$!
    sleep 0.5
    timeout "$patience" "$PYTHON" "$nbddir/nbdtool.py" fails \
        "$(export_uri sound)" || fail "another image waits"
    kill -0 $client || fail "it cost nothing: no such test"
    wait $client || fail "it does not end"
    client=
    echo "$hash: refused after $SECONDS seconds"
    grep -q "error: qcow2: .*$hash: no key slot" "$log" ||
        fail "another message: $(grep error: "$log")"
    stop_nbdkit
done
