#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# virt-v2v converts a guest whose disk is an export: a small Debian with a
# kernel.  It copies one from a compressed image that nobody may write to, and
# changes another one in place, through us.  Then the guest's files are those
# that were put in, and its file system and the image have no errors.
#
# "-i disk" takes files only; the XML of libvirt may name an NBD server, at
# localhost and a port.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"
# shellcheck source=guest.sh source-path=SCRIPTDIR
source "$(dirname "$0")/guest.sh"

skip_if_instrumented "once is enough"
requires_plugin file
requires_program virt-v2v virt-v2v-in-place debugfs e2fsck
requires_guest
compgen -G '/boot/vmlinuz-*' >/dev/null ||
    skip "needs a Linux for libguestfs, such as the package linux-image-amd64"

export LIBGUESTFS_BACKEND=direct TMPDIR=$tmp LIBGUESTFS_CACHEDIR=$tmp
# Without KVM, on a busy machine, its Linux takes long.
export LIBGUESTFS_BACKEND_SETTINGS=force_tcg LIBGUESTFS_MEMSIZE=1280
# serve_port ARGUMENT...: sets 'port'.
serve_port ()
{
    local -a nbdkit_command
    local i j

    set_nbdkit_command
    for ((i = 0; i < 5; i++)); do
        port=$((20000 + RANDOM % 20000))
        rm -f "$tmp/v2v.pid"
        "${nbdkit_command[@]}" -f -P "$tmp/v2v.pid" -i 127.0.0.1 -p "$port" \
            "$@" </dev/null >"$tmp/v2v.log" 2>&1 &
        pid=$!
        for ((j = 0; j < patience * 20; j++)); do
            [ ! -s "$tmp/v2v.pid" ] || break 2
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
    done
    [ -s "$tmp/v2v.pid" ] || fail "the server did not start"
    server_pid[v2v]=$pid
    servers+=(v2v)
    cat >"$tmp/guest.xml" <<END
<domain type='kvm'>
  <name>guest</name>
  <memory>1048576</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <source protocol='nbd'><host name='localhost' port='$port'/></source>
      <target dev='hda' bus='ide'/>
    </disk>
  </devices>
</domain>
END
}

# convert PROGRAM ARGUMENT...
convert ()
{
    SECONDS=0
    timeout 3000 "$@" >"$tmp/said" 2>&1 || {
        cat "$tmp/said"
        fail "$1 fails"
    }
    echo "$1: $SECONDS s"
}

# check_converted DISK: the files that nobody changes, and what virt-v2v has.
check_converted ()
{
    local fs="$1?offset=$start" folder

    e2fsck -fn "$fs" >"$tmp/said" 2>&1 || {
        cat "$tmp/said"
        fail "e2fsck"
    }
    rm -rf "$tmp/files"
    mkdir "$tmp/files"
    for folder in usr/bin usr/lib/x86_64-linux-gnu; do
        debugfs -R "rdump /$folder $tmp/files" "$fs" >"$tmp/said" 2>&1
        diff -r --no-dereference "$guest/$folder" \
            "$tmp/files/${folder##*/}" >"$tmp/said" 2>&1 || {
            head -n 20 "$tmp/said"
            fail "/$folder differs"
        }
    done
    debugfs -R "ls /boot" "$fs" 2>/dev/null | grep -q 'pre-v2v' ||
        fail "the guest has not been converted"
}

make_guest
qemu-img convert -c -f raw -O qcow2 "$tmp/disk.raw" "$tmp/disk.qcow2"
# nbdkit 1.32 ends when a client leaves while threads wait for it: -t 1.
echo "copied"
before=$(sha256sum <"$tmp/disk.qcow2")
serve_port -r -t 1 --filter="$filter" file "$tmp/disk.qcow2"
mkdir "$tmp/out"
convert virt-v2v -i libvirtxml "$tmp/guest.xml" -o local -os "$tmp/out" -of raw
stop_nbdkit v2v
[ "$(sha256sum <"$tmp/disk.qcow2")" = "$before" ] || fail "the image changed"
grep -q "bus='virtio'" "$tmp/out/guest.xml" || fail "the guest's XML"
check_converted "$tmp/out/guest-sda"
rm -r "$tmp/out"

echo "in place, after a snapshot"
qemu-img snapshot -c before "$tmp/disk.qcow2"
serve_port -t 1 --filter="$filter" file "$tmp/disk.qcow2"
convert virt-v2v-in-place -i libvirtxml "$tmp/guest.xml"
stop_nbdkit v2v
qemu-img check -q "$tmp/disk.qcow2" || fail "the image is not clean"
qemu-img convert -f qcow2 -O raw "$tmp/disk.qcow2" "$tmp/after"
check_converted "$tmp/after"
qemu-img convert -f qcow2 -O raw -l before "$tmp/disk.qcow2" "$tmp/after"
cmp "$tmp/after" "$tmp/disk.raw" || fail "the snapshot has changed"
