# SPDX-License-Identifier: BSD-3-Clause
# services.sh - other servers that hold images: a test starts those that it
# needs, in $tmp, and they are stopped when the test ends; sourced.
# shellcheck shell=bash
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

# try_nginx DIR: start one whose own files are in DIR, with the rest of the
# block "http" from the input.  Fails if it does not start: a port may be taken.
try_nginx ()
{
    local dir=$1

    mkdir -p "$dir"
    {
        cat <<END
pid $dir/pid;
error_log $dir/error;
worker_processes 1;
events { }
http {
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
END
        cat
        echo "}"
    } >"$dir/conf"
    # Its workers may run as another user, who must be able to read the files.
    chmod a+rx "$tmp"
    nginx -c "$dir/conf" -e "$dir/error" || return 1
    wait_for test -s "$dir/pid"
    # Read the number now: the file is removed when it ends.
    cleanup_fn kill "$(cat "$dir/pid")"
}

# start_nginx DIR: serve the files of DIR over HTTP on $tmp/nginx.sock.
start_nginx ()
{
    requires_program nginx
    try_nginx "$tmp/nginx" <<END || broken "nginx does not start"
    access_log $tmp/nginx/access;
    server {
        listen unix:$tmp/nginx.sock;
        root $1;
    }
END
    wait_for test -S "$tmp/nginx.sock"
}

# make_certificate DIR: for https://localhost, DIR/cert.pem and DIR/key.pem.
make_certificate ()
{
    mkdir -p "$1"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null ||
        broken "openssl makes no certificate"
}

# start_sshd: a private one; sets the array 'ssh_args' for nbdkit's plugin.
start_sshd ()
{
    local dir=$tmp/ssh port try
    local sshd=/usr/sbin/sshd

    [ -x "$sshd" ] || skip "sshd is not installed"
    requires_program ssh-keygen
    mkdir -p "$dir"
    [ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$dir/hostkey"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/id"
    for try in 1 2 3 4 5 6 7 8; do
        port=$((20000 + (RANDOM + try) % 20000))
        cat >"$dir/config" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $dir/hostkey
PidFile $dir/pid
AuthorizedKeysFile $dir/id.pub
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
END
        "$sshd" -f "$dir/config" -E "$dir/messages"
        sleep 0.2
        [ ! -s "$dir/pid" ] || break
    done
    wait_for test -s "$dir/pid"
    cleanup_fn kill "$(cat "$dir/pid")"
    echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$dir/hostkey.pub")" \
        >"$dir/known_hosts"
    # shellcheck disable=SC2034         # For the test.
    ssh_args=(host=127.0.0.1 port="$port" user="$(id -un)"
        identity="$dir/id" known-hosts="$dir/known_hosts")
}

# start_qemu_nbd NAME IMAGE FORMAT: serve it on $tmp/NAME.sock to many clients.
start_qemu_nbd ()
{
    local name=$1

    requires_program qemu-nbd
    qemu-nbd -r -t -e 8 -f "$3" -k "$tmp/$name.sock" \
        --pid-file="$tmp/$name.qpid" "$2" &
    cleanup_fn kill $!
    wait_for test -s "$tmp/$name.qpid"
    wait_for test -S "$tmp/$name.sock"
}

# make_images: images with all kinds of clusters, $tmp/images/mix.qcow2 and
# mix-extl2.qcow2, and their maps from the oracle.  (test-matrix-other compares
# those with QEMU's.)
make_images ()
{
    local name

    requires_qemu
    requires_libnbd
    "$PYTHON" "$lib/matrix.py" make mix mix-extl2 "$tmp/images"
    for name in mix mix-extl2; do
        "$PYTHON" -c '
import sys
import oracle
offset = 0
for length, flags in oracle.Image(sys.argv[1]).extents():
    print(offset, length, flags)
    offset += length
' "$tmp/images/$name.qcow2" >"$tmp/images/$name.map"
    done
}

# check_disk URI NAME: check the contents and map of one of these.
check_disk ()
{
    nbdtool compare "$1" "$tmp/images/$2.raw" --reads 200
    nbdtool map "$1" >"$tmp/map"
    diff "$tmp/images/$2.map" "$tmp/map" || fail "the maps differ"
}
