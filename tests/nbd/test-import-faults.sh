#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The stack of virt-v2v, cow over ours over retry over curl, and a web server
# that is overloaded, hangs up in the middle of answers and does not answer: an
# import looks at the disk, changes it, and copies it, and every byte is right.
# Without retry it fails.  Only GET meets faults: when a client connects, nbdkit
# 1.32 does not retry, and the client has to.
#
# The server is web_host.py; EVERY=N for a fault at each Nth request.
# shellcheck source=pipelines.sh source-path=SCRIPTDIR
source "$(dirname "$0")/pipelines.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin curl
requires_filter cow
requires_filter retry
skip_if_instrumented "Python has leaks of its own"
export no_proxy=127.0.0.1,localhost
make_imported

"$PYTHON" "$nbddir/web_host.py" serve "$tmp/www" "$tmp/host.access" \
    --every "${EVERY:-4}" >"$tmp/host.port" 2>"$tmp/host.log" &
cleanup_fn kill $!
wait_for test -s "$tmp/host.port"
web=http://localhost:$(cat "$tmp/host.port")
image=$web/faults/disk.qcow2

# faults: how often requests have met this one.
faults ()
{
    grep -c "^FAULT $1 " "$tmp/host.access" || true
}

# The disk as clients must find it, after they have written to it.
cp --sparse=always "$tmp/disk.raw" "$tmp/changed.raw"

# change TARGET: as an import does it, files here and there.
change ()
{
    qemu-io -f raw -c 'write -q -P 7 3M 200k' -c 'write -q -P 8 9000k 4k' \
        -c 'write -q -z 5M 1M' -c 'write -q -P 9 18M 3M' "$1"
}

start_nbdkit --filter=cow --filter="$filter" --filter=retry curl "$image" \
    retry-delay=1 retry-exponential=no
echo "looks at the disk"
nbdtool compare "$uri" "$tmp/disk.raw" --reads 40 --connections 2
echo "changes it"
change "$tmp/changed.raw"
change "$uri"
nbdtool compare "$uri" "$tmp/changed.raw" --reads 40 --only-random
echo "copies it"
nbdcopy --connections=4 "$uri" "$tmp/copy"
cmp "$tmp/copy" "$tmp/changed.raw" || fail "wrong data"
rm "$tmp/copy"
qemu-img convert -f raw -O raw "$uri" "$tmp/copy"
cmp "$tmp/copy" "$tmp/changed.raw" || fail "QEMU gets wrong data"
stop_nbdkit
for fault in 503 middle silence; do
    met=$(faults "$fault")
    echo "$met requests have met: $fault"
    [ "$met" -gt 0 ] || fail "no request has met it"
done
grep -q 'returned error: 503' "$log" || fail "the log has no 503"

# What was only read ahead may fail, so that a copy may be lucky: then the filter
# asks again when the bytes are needed.
echo "without retry"
start_nbdkit --filter=cow --filter="$filter" curl "$image" qcow2-readahead=0
! nbdcopy --connections=4 "$uri" "$tmp/copy" 2>"$tmp/said" ||
    fail "no client has noticed a fault"
grep -E 'Input/output error|no export named' "$tmp/said" ||
    fail "$(cat "$tmp/said")"
stop_nbdkit
