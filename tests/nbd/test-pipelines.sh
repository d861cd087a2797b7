#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Web servers as they are: HTTPS with redirects to addresses that change, that
# refuse HEAD, that know no ranges; and an importer's command line with our
# filter in it, into a file and into a block device.  docs/PIPELINES.md has
# these commands.
#
# SIZE and NUMBERS are as in pipelines.sh.  PAUSE=20ms makes each request of the
# importer wait as on the way to a distant server.
# shellcheck source=pipelines.sh source-path=SCRIPTDIR
source "$(dirname "$0")/pipelines.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin curl
requires_filter retry
requires_filter readahead
requires_program nginx openssl curl
make_imported

start_web ()
{
    local dir=$tmp/web try

    make_certificate "$dir"
    for try in 1 2 3 4 5; do
        https=$(port $try)
        try_nginx "$dir" <<END || continue
    log_format brief '\$request_method \$status \$body_bytes_sent \$uri';
    access_log $dir/access brief;
    server {
        listen 127.0.0.1:$https ssl;
        ssl_certificate $dir/cert.pem;
        ssl_certificate_key $dir/key.pem;
        root $tmp/www;
        location /mirror/ {
            return 302 https://localhost:$https/disk.qcow2?\$request_id;
        }
        location /presigned/ {
            alias $tmp/www/;
            if (\$request_method = HEAD) { return 403; }
        }
        location /whole/ {
            alias $tmp/www/;
            max_ranges 0;
        }
    }
END
        web=https://localhost:$https
        watch_log "$dir/access"
        return 0
    done
    broken "nginx does not start"
}

# make_loop BYTES: sets 'device', a loop device that reads as zeros.
make_loop ()
{
    local file

    file=$(mktemp "$tmp/volume.XXXXXX")
    truncate -s "$1" "$file"
    device=$(losetup -f --show "$file") || return 1
    cleanup_fn losetup -d "$device"
}

# lvm_here COMMAND...: sees our devices alone, and needs no udev.
lvm_here ()
{
    lvm "$@" --config "
        devices { use_devicesfile = 0
                  filter = [ \"a|^$physical\$|\", \"r|.*|\" ] }
        backup { backup = 0
                 archive = 0 }
        activation { udev_sync = 0
                     udev_rules = 0 }" >>"$tmp/lvm" 2>&1 || {
        cat "$tmp/lvm"
        fail "lvm $*"
    }
}

# into_lvm DEVICE: a new logical volume on it.
into_lvm ()
{
    local group=q2test$$

    physical=$1
    lvm_here pvcreate "$physical"
    lvm_here vgcreate -s 4m "$group" "$physical"
    cleanup_fn lvm_here vgremove -f "$group"
    lvm_here lvcreate -W n -Z n -n disk -L "$(stat -c %s "$tmp/disk.raw")b" \
        "$group"
    number "into a logical volume" \
        nbdcopy --destination-is-zero "$uri" "/dev/$group/disk"
    cmp "/dev/$group/disk" "$tmp/disk.raw" || fail "wrong data"
    lvm_here lvchange -an "$group/disk"
}

start_web
echo "a mirror that redirects each request to another address"
start_nbdkit -r --filter="$filter" --filter=retry curl "$web/mirror/disk" \
    cainfo="$tmp/web/cert.pem"
number "into a file" copy --connections=4
not_much_more
if [ "$(id -u)" -ne 0 ]; then
    echo "not run: devices, which need root"
elif ! make_loop "$(stat -c %s "$tmp/disk.raw")"; then
    echo "not run: there is no loop device"
else
    number "into a block device" nbdcopy "$uri" "$device"
    cmp "$device" "$tmp/disk.raw" || fail "wrong data"
    if ! lvm version >/dev/null 2>&1; then
        echo "not run: LVM, lvm2 is not installed"
    elif ! dmsetup version >/dev/null 2>&1; then
        echo "not run: LVM, this kernel has no device mapper"
    else
        make_loop $(($(stat -c %s "$tmp/disk.raw") + 8 * M))
        into_lvm "$device"
    fi
fi
stop_nbdkit

echo "a server that refuses HEAD, as for an address signed for GET"
if start_nbdkit -r --filter="$filter" curl "$web/presigned/disk.qcow2" \
        cainfo="$tmp/web/cert.pem"; then
    if nbdtool size "$uri" >/dev/null 2>&1; then
        number "without HEAD" copy
    else
        # Before 1.36 the plugin does not try GET; it has to say so.
        grep -E 'HEAD.*403' "$log" || fail "the log does not say why"
    fi
    stop_nbdkit
else
    fail "an unreachable image keeps the server from starting"
fi

echo "a server that sends the whole file for each range"
start_nbdkit -r --filter="$filter" curl "$web/whole/disk.qcow2" \
    cainfo="$tmp/web/cert.pem"
nbdtool fails "$uri"
grep -i 'range' "$log" || fail "the log does not say why"
stop_nbdkit

echo "the importer of KubeVirt"
importer ()
{
    local -a far=(--filter=delay)

    [ -n "${PAUSE:-}" ] || far=()
    start_nbdkit --readonly --exit-with-parent "$@" \
        --filter=readahead --filter=retry "${far[@]}" -r curl \
        "header=User-Agent: cdi-nbdkit-importer" \
        cainfo="$tmp/web/cert.pem" retry-exponential=no \
        url="$web/disk.qcow2" ${far:+delay-read="$PAUSE"}
}

download_and_convert ()
{
    curl -sS --cacert "$tmp/web/cert.pem" -o "$tmp/scratch" \
        "$web/disk.qcow2"
    qemu-img convert -t writeback -f qcow2 -O raw "$tmp/scratch" "$tmp/copy"
}

importer
number "QEMU's decoder" \
    qemu-img convert -t writeback -f qcow2 -O raw "$uri" "$tmp/copy"
by_qemu_bytes=$got
cmp "$tmp/copy" "$tmp/disk.raw"
stop_nbdkit
importer --filter="$filter"
number "this filter" \
    qemu-img convert -t writeback -f raw -O raw "$uri" "$tmp/copy"
cmp "$tmp/copy" "$tmp/disk.raw"
not_much_more
number "this filter, and nbdcopy" copy
our_bytes=$got
stop_nbdkit
number "download, and convert" download_and_convert
cmp "$tmp/copy" "$tmp/disk.raw"
echo "scratch space: $(stat -c %s "$tmp/scratch") bytes; QEMU has fetched" \
     "$by_qemu_bytes, the filter $our_bytes, of $size"
