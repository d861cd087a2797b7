#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image that cannot or must not be written to is served read-only, with one
# line in the log that says why, unless -r was given; and no client can change
# it.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

# read_only FILE REGEX ARGUMENT...: it is served read-only for that reason.
read_only ()
{
    local file=$1 regex=$2 i before

    shift 2
    before=$(sha256sum <"$file")
    start_nbdkit --filter="$filter" "$@"
    for i in 1 2 3; do
        check_read_only
    done
    stop_nbdkit
    i=$(grep -c ': is served read-only: ' "$log" || true)
    [ "$i" -eq 1 ] || fail "$i lines say that it is read-only"
    has_logged ": is served read-only: .*$regex"
    [ "$(sha256sum <"$file")" = "$before" ] || fail "$file was written to"

    start_nbdkit -r --filter="$filter" "$@"
    check_read_only
    stop_nbdkit
    has_not_logged ': is served read-only: '
    [ "$(sha256sum <"$file")" = "$before" ] || fail "$file was written to"
}

image=$tmp/disk.qcow2

echo "an image in order, only because of -r"
new_image 16M
before=$(sha256sum <"$image")
start_nbdkit -r --filter="$filter" file "$image"
check_read_only
stop_nbdkit
has_not_logged 'read-only'
[ "$(sha256sum <"$image")" = "$before" ] || fail "it was written to"
# The same server without it can write, so the check means something.
start_nbdkit --filter="$filter" file "$image"
if check_read_only 2>/dev/null; then
    fail "read-only without a reason"
fi
stop_nbdkit

echo "version 1"
qemu-img create -q -f qcow "$tmp/v1.qcow" 16M
read_only "$tmp/v1.qcow" 'version 1' file "$tmp/v1.qcow"

echo "an image that is marked as corrupt"
cp "$image" "$tmp/corrupt.qcow2"
printf '\002' | dd of="$tmp/corrupt.qcow2" bs=1 seek=79 conv=notrunc status=none
read_only "$tmp/corrupt.qcow2" 'corrupt; repair the image' \
    file "$tmp/corrupt.qcow2"

if [ "$(id -u)" -eq 0 ] && [ -z "$instrumented" ] &&
        loop=$(losetup -f 2>/dev/null) && [ -b "$loop" ]; then
    echo "on a device, which every client has opened again"
    loop=$(losetup -f --show "$tmp/corrupt.qcow2")
    cleanup_fn losetup -d "$loop"
    read_only "$loop" 'corrupt' file "$loop"
fi

if "$NBDKIT" --dump-plugin --filter=blocksize-policy null >/dev/null 2>&1; then
    echo "clusters smaller than the smallest block"
    qemu-img create -q -f qcow2 -o cluster_size=512 "$tmp/small.qcow2" 16M
    truncate -s 1M "$tmp/small.qcow2"
    read_only "$tmp/small.qcow2" 'block' --filter=blocksize-policy \
        file "$tmp/small.qcow2" blocksize-minimum=4096 \
        blocksize-preferred=4096
fi

if "$NBDKIT" --dump-plugin curl >/dev/null 2>&1 &&
        [ -n "$(type -P nginx)" ]; then
    echo "a web server: curl says that it can write, but cannot flush"
    mkdir "$tmp/www"
    cp "$image" "$tmp/www/disk.qcow2"
    chmod -R a+rX "$tmp/www"
    start_nginx "$tmp/www"
    read_only "$tmp/www/disk.qcow2" 'flush' curl \
        http://localhost/disk.qcow2 unix-socket-path="$tmp/nginx.sock"
    grep -q '"GET ' "$tmp/nginx/access" || fail "the server was not asked"
    ! grep -E '"(PUT|POST|PATCH)' "$tmp/nginx/access" || fail "sent a write"
fi

# A plugin in shell.  The filter cannot tell if it uses export names, so each
# is another image.
have_eval ()
{
    "$NBDKIT" --dump-plugin eval >/dev/null 2>&1 && [ -z "$instrumented" ]
}

# shellcheck disable=SC2016     # For the plugin's shell.
eval_plugin=(eval get_size="stat -c %s '$image'"
    pread="dd if='$image' iflag=count_bytes,skip_bytes skip=\$4 count=\$3 status=none"
    pwrite="dd of='$image' oflag=seek_bytes seek=\$4 conv=notrunc status=none"
    flush="sync '$image'")

if have_eval; then
    new_image 16M
    truncate -s 4M "$image"

    echo "a plugin that cannot write, or not flush"
    read_only "$image" 'cannot write' "${eval_plugin[@]}" \
        can_write='exit 3' can_flush='exit 0' can_multi_conn='exit 0'
    read_only "$image" 'flush' "${eval_plugin[@]}" \
        can_write='exit 0' can_flush='exit 3' can_multi_conn='exit 0'

    version=$("$NBDKIT" --dump-config | sed -n 's/^version=//p')
    if [ "$(printf '%s\n' 1.44 "$version" | sort -V | head -n 1)" != 1.44 ]
    then
        echo "connections that do not see what others write"
        read_only "$image" 'multi-conn' "${eval_plugin[@]}" \
            can_write='exit 0' can_flush='exit 0' can_multi_conn='exit 3'
    fi

    echo "it is not known whether another name is the same image"
    start_nbdkit --filter="$filter" "${eval_plugin[@]}" \
        can_write='exit 0' can_flush='exit 0' can_multi_conn='exit 0'
    start_client w:0:64k:1
    writetool "$uri" --raw "$tmp/disk.raw" w:64k:64k:2
    nbdtool fails "$(export_uri other)" >/dev/null
    has_logged 'open for writing under another export name'
    finish_client
    writetool "$(export_uri other)" --raw "$tmp/disk.raw" w:128k:64k:3
    stop_nbdkit
    check_image
fi
