#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A web server that dies and is restarted, and whose files change.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin curl
requires_filter retry
make_real "$tmp/disk.raw" $((12 * M))
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c

# kill_nginx: at once, in the middle of a request.
kill_nginx ()
{
    local nginx

    nginx=$(cat "$tmp/nginx/pid")
    kill -TERM "$nginx"
    wait_for test ! -e "$tmp/nginx/pid"
    rm -f "$tmp/nginx.sock"
}

echo "a web server that dies and comes back in the middle of a copy"
for name in plain packed; do
    rm -rf "$tmp/nginx" "$tmp/www"
    mkdir -p "$tmp/www"
    cp "$tmp/$name.qcow2" "$tmp/www"
    start_nginx "$tmp/www"
    start_nbdkit -v --filter="$filter" --filter=retry --filter=delay curl \
        "http://localhost/$name.qcow2" unix-socket-path="$tmp/nginx.sock" \
        delay-read=400ms retry-delay=1 retry-exponential=no retries=20
    copy --connections=2 &
    client=$!
    wait_for grep -q 'debug: qcow2: open' "$log"
    sleep 0.6
    kill_nginx
    sleep 0.3
    nginx -c "$tmp/nginx/conf" -e "$tmp/nginx/error"
    wait_for test -s "$tmp/nginx/pid"
    wait "$client" || fail "the copy did not survive"
    grep -q 'retry 1' "$log" || fail "nothing had to be retried"
    stop_nbdkit
    kill_nginx
done

echo "a file of the web server that is replaced by another between clients"
cp "$tmp/plain.qcow2" "$tmp/www/disk.qcow2"
start_nginx "$tmp/www"
start_nbdkit --filter="$filter" curl http://localhost/disk.qcow2 \
    unix-socket-path="$tmp/nginx.sock"
nbdtool compare "$uri" "$tmp/disk.raw" --reads 0
make_real "$tmp/other.raw" $((9 * M))
make_image "$tmp/www/new" "$tmp/other.raw" -c
mv "$tmp/www/new" "$tmp/www/disk.qcow2"
nbdtool compare "$uri" "$tmp/other.raw" --reads 20
echo "no image at all"
head -c 300000 /dev/urandom >"$tmp/www/disk.qcow2"
nbdtool fails "$uri"
echo "a compressed image that was cut: no garbage, and no zeros"
head -c 3000000 "$tmp/packed.qcow2" >"$tmp/www/disk.qcow2"
nbdtool fails "$uri" $((11 * M)) 65536
nbdtool read "$uri" "$M" 65536 |
    cmp -n 65536 - "$tmp/disk.raw" 0 "$M"
echo "and one that is cut short while a client is connected"
cp "$tmp/plain.qcow2" "$tmp/www/disk.qcow2"
"$PYTHON" - "$uri" "$tmp/disk.raw" "$tmp/www/disk.qcow2" <<'END'
import errno
import os
import sys
import nbd
from nbdtool import Raw, connect
handle, raw = connect(sys.argv[1]), Raw(sys.argv[2])
raw.check(0, bytes(handle.pread(4096, 0)))
os.truncate(sys.argv[3], 3 << 20)
for offset in (5 << 20, 2 << 20, 0):
    try:
        raw.check(offset, bytes(handle.pread(65536, offset)))
        assert offset < 3 << 20
    except nbd.Error as error:
        assert error.errnum == errno.EIO and offset == 5 << 20, error
handle.shutdown()
END
