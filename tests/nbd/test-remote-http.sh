#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over HTTP from nginx, at full speed and slowed down, and over HTTPS with a
# password: the right data, and few requests in nginx's log.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin curl
requires_filter retry
requires_program nginx openssl
make_served_images

start_web ()
{
    local dir=$tmp/web try

    make_certificate "$dir"
    echo "user:$(openssl passwd -apr1 secret)" >"$dir/passwords"
    for try in 1 2 3 4 5; do
        https=$(port $try)
        try_nginx "$dir" <<END || continue
    access_log $dir/access;
    root $tmp/www;
    server {
        listen unix:$tmp/web.sock;
        location /slow/ {
            alias $tmp/www/;
            limit_rate 16m;
        }
    }
    server {
        listen 127.0.0.1:$https ssl;
        ssl_certificate $dir/cert.pem;
        ssl_certificate_key $dir/key.pem;
        auth_basic "images";
        auth_basic_user_file $dir/passwords;
    }
END
        return 0
    done
    broken "nginx does not start"
}

# gets: the number of GET requests since the last call.
gets ()
{
    sleep 0.2                   # The log is written after the answer.
    grep -c '"GET .* 206 ' "$tmp/web/access" || true
    : >"$tmp/web/access"
}

start_web
for name in plain packed; do
    size=$(stat -c %s "$tmp/www/$name.qcow2")
    : >"$tmp/web/access"
    start_nbdkit --filter="$filter" --filter=delay curl \
        "http://localhost/$name.qcow2" unix-socket-path="$tmp/web.sock" \
        delay-read=5ms
    copy --connections=4
    stop_nbdkit
    number=$(gets)
    echo "HTTP, $name: $number requests for $size bytes"
    [ "$number" -gt 0 ] || broken "the access log is empty"
    [ "$number" -le $((size * 12 / 10 / M + 7)) ] ||
        fail "HTTP, $name: $number requests"
    check "HTTP, slow, $name" --filter=retry curl \
        "http://localhost/slow/$name.qcow2" \
        unix-socket-path="$tmp/web.sock"
    check "HTTPS, $name" curl "https://localhost:$https/$name.qcow2" \
        cainfo="$tmp/web/cert.pem" user=user password=secret
done
start_nbdkit --filter="$filter" curl \
    "https://localhost:$https/plain.qcow2" \
    cainfo="$tmp/web/cert.pem" user=user password=wrong
nbdtool fails "$uri" >/dev/null
stop_nbdkit
