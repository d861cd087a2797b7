#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A machine with a kernel and systemd of its own, Debian's, in which the
# packages are installed: the profile of AppArmor is enforced and refuses what
# it does not allow, the units serve with TLS, with images in other places and
# on devices, and the kernel is a client (nbd-client) with a file system.
# machine.sh is what runs in it, with the commands of packaging/README.md.
#
# The machine's own disk is served by this build, too: it boots from an image
# over NBD, and the image is clean when it is off.
#
# Needs qemu-system-x86_64.  QCOW2_ACCEL=kvm is faster than QEMU's own emulation,
# but there are machines whose KVM cannot run a Linux.  The suite is chosen with
# QCOW2_COMPAT_SUITES; see roots.sh.

# shellcheck source=tests/packaging/debs.sh
. "$(dirname "$0")/debs.sh"
requires qemu-system-x86_64 qemu-img mkfs.ext4 nbdkit
[ "$(dpkg --print-architecture)" = amd64 ] || skip "needs a PC"
read -r -a suites <<< "${QCOW2_COMPAT_SUITES:-trixie}"

# Emulated, on a machine with other work, all takes its time.
readonly options="systemd.firstboot=off systemd.default_timeout_start_sec=900"
so=$top_builddir/filter/.libs/nbdkit-qcow2-filter.so
[ -f "$so" ] || skip "this build has no filter"
page=$top_srcdir/docs/nbdkit-qcow2-migrating.pod

# put NAME: the input gets into the machine; there must be some.
put ()
{
    cat > "$root/machine/commands/$1"
    [ -s "$root/machine/commands/$1" ] || fail "the documentation lacks: $1"
}

# table COLUMN ROW: what packaging/README.md has in backticks there.
# shellcheck disable=SC2016         # Backticks of Markdown.
table ()
{
    awk -F '[|]' -v row=" $2 " -v column="$1" '
        $2 == row { print $(column + 1) }' "$top_srcdir/packaging/README.md" |
        grep -o '`[^`]*`' | tr -d '`'
}

# shellcheck disable=SC2016
put_commands ()
{
    readme_block "The units of systemd" console 1 | put units
    readme_block "The units of systemd" ini 1 | put tcp.conf
    readme_block TLS console 1 | put certificates
    readme_block TLS console 2 | put certificates.client
    readme_block TLS sh 1 | put certificates.conf
    readme_block TLS console 3 | put psk
    readme_block TLS console 4 | put psk.client
    readme_block TLS sh 2 | put psk.conf
    grep -o '`journalctl -k [^`]*`' "$top_srcdir/packaging/README.md" |
        tr -d '`' | put denials
    { echo "[Service]"; table 2 "images elsewhere"; } | put else.conf
    table 3 "images elsewhere" | put else.rules
    { echo "[Service]"; table 2 'images in `/home`'; } | put home.conf
    table 3 'images in `/home`' | put home.rules
    { echo "[Service]"; table 2 "a block device"; } |
        sed 's|/dev/vg/disk|/dev/mapper/disk|' | put device.conf
    table 3 "a block device" | put device.rules
    sed -n 's/^ \(nbd-client -unix .*\)/\1/p' "$page" |
        sed 's|/run/disk.sock|/run/nbdkit-qcow2/disk.sock|' | put connect
    sed -n 's/.*C<\(nbd-client -d [^>]*\)>.*/\1/p' "$page" | put disconnect
}

# In 'root': what the machine has beside the packages.
furnish ()
{
    install_debs libnbd-bin systemd systemd-sysv dbus udev kmod \
        linux-image-amd64 initramfs-tools zstd apparmor nbd-client dmsetup \
        e2fsprogs openssl
    # Nearly a hundred profiles of programs that are not here, and a service
    # that looks for volumes, would take minutes.
    find "$root/etc/apparmor.d" -maxdepth 1 -type f ! -name nbdkit-qcow2 -delete
    quiet in_root systemctl mask e2scrub_reap.service
    mkdir -p "$root/machine/commands"
    cp "$top_srcdir/tests/packaging/machine.sh" "$root/machine/"
    put_commands
    echo "127.0.0.1 localhost server.example.com" > "$root/etc/hosts"
    cat > "$root/etc/systemd/system/machine-test.service" <<'END'
[Unit]
After=basic.target apparmor.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash /machine/machine.sh
TimeoutStartSec=2000
[Install]
WantedBy=multi-user.target
END
    quiet in_root systemctl enable machine-test.service
}

# The disk of the machine, an image that this build serves.
make_disk ()
{
    quiet mkfs.ext4 -q -d "$root" "$tmp/disk.raw" 4G
    cp "$root"/boot/vmlinuz-* "$tmp/vmlinuz"
    cp "$root"/boot/initrd.img-* "$tmp/initrd"
    quiet qemu-img convert -f raw -O qcow2 "$tmp/disk.raw" "$tmp/disk.qcow2"
    rm "$tmp/disk.raw"
    truncate -s 200M "$tmp/second.raw"
}

boot ()
{
    local begin status=0

    nbdkit -f -t 1 -U "$tmp/sock" --filter="$so" file "$tmp/disk.qcow2" \
        2> "$tmp/server" &
    server=$!
    for _ in {1..600}; do
        [ ! -S "$tmp/sock" ] || break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    begin=$SECONDS
    timeout --kill-after=10 2400 qemu-system-x86_64 \
        -machine "pc,accel=${QCOW2_ACCEL:-tcg}" -smp 2 -m 1024 \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$tmp/vmlinuz" -initrd "$tmp/initrd" \
        -append "root=/dev/vda rw console=ttyS0 panic=-1 quiet $options" \
        -drive "file=nbd+unix:///?socket=$tmp/sock,format=raw,if=virtio" \
        -drive "file=$tmp/second.raw,format=raw,if=virtio,cache=unsafe" \
        -serial "file:$tmp/console" -serial "file:$tmp/said" \
        < /dev/null > "$tmp/qemu" 2>&1 || status=$?
    kill "$server"
    wait "$server" || fail "$suite: the server of the machine's disk failed"
    if ! grep -qx 'all well' "$tmp/said"; then
        cat "$tmp/qemu" "$tmp/server"
        tail -n 30 "$tmp/console"
        cat "$tmp/said"
        fail "$suite: in the machine (QEMU ended with $status)"
    fi
    sed -n "s/^--- \(.*\)/$suite: ok: \1/p" "$tmp/said"
    grep -i 'exposure level' "$tmp/said"
    quiet qemu-img check -q "$tmp/disk.qcow2"
    echo "$suite: the disk of the machine is clean;" \
        "it was up for $((SECONDS - begin)) s"
}

try ()
{
    new_root "$1" "build-$1" --minimal || return $?
    build_debs
    clean_root "build-$1"
    new_root "$1" "machine-$1" --minimal || return $?
    furnish
    make_disk
    clean_root "machine-$1"
    boot
}

each_suite try
