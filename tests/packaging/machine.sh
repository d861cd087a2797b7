#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# machine.sh - what test-machine-long.sh runs in its machine: systemd starts it
# as root once the machine is up.  It says "all well" at the end, on the second
# serial port.
#
# /machine/commands has the commands, settings and rules of packaging/README.md
# and of nbdkit-qcow2-migrating(1), one file each, as they are there.

set -e -E -o pipefail
stty -F /dev/ttyS1 raw -echo
exec > /dev/ttyS1 2>&1
trap 'echo "failed: line $LINENO: $BASH_COMMAND"
      journalctl --no-pager -b | tail -n 80' ERR
export LC_ALL=C HOME=/root
commands=/machine/commands
images=/var/lib/nbdkit-qcow2
mkdir -p /try
cd /try

step () { echo "--- $*"; }
# "! command" would not end this program.
fails () { if "$@"; then echo "it should fail: $*"; return 1; fi; }
uri () { echo "nbd+unix:///?socket=/run/nbdkit-qcow2/$1.sock"; }
pid_of () { systemctl show -P MainPID "nbdkit-qcow2@$1.service"; }

# new_disk NAME IMAGE: settings for an image of 100 MiB that is there
# afterwards.
new_disk ()
{
    [ -e "$2" ] || qcow2ctl create "$2" 100M
    chown nbdkit-qcow2: "$2"
    echo "IMAGE=$2" > "/etc/nbdkit-qcow2/$1.conf"
}

# drop_in UNIT: what "systemctl edit" would make of the input.
drop_in ()
{
    mkdir -p "/etc/systemd/system/$1.d"
    cat > "/etc/systemd/system/$1.d/override.conf"
    systemctl daemon-reload
}

# not_served NAME: its server ends, and is started again and again until systemd
# gives up, for which this machine may be too slow.
not_served () { fails timeout 30 nbdinfo --size "$(uri "$1")"; }

# stop_disk NAME: also after it has failed as often as systemd allows.
stop_disk ()
{
    systemctl stop "nbdkit-qcow2@$1.socket" "nbdkit-qcow2@$1.service"
    systemctl reset-failed
}

# allow NAME: adds the rules for it to the profile.
allow ()
{
    mkdir -p /etc/apparmor.d/local
    cat "$commands/$1.rules" >> /etc/apparmor.d/local/nbdkit-qcow2
    apparmor_parser -r /etc/apparmor.d/nbdkit-qcow2
}

# Prints what AppArmor has denied to the server, with README's command.
denials () { bash "$commands/denials" | grep DENIED || :; }

step "this machine: $(uname -r), systemd $(systemctl --version |
                                           awk 'NR == 1 { print $2 }')"
[ "$(cat /proc/1/comm)" = systemd ]

step "the profile is enforced"
aa-enabled | grep -x Yes
grep -x 'nbdkit-qcow2 (enforce)' /sys/kernel/security/apparmor/profiles
aa-status > status
sed -n '/profiles are in enforce mode/,/profiles are in complain/p' status |
    grep -x ' *nbdkit-qcow2'

step "an image, served to the first client that comes"
qcow2ctl create disk.qcow2 100M
sed -i '/^nbdinfo/d' "$commands/units"
bash -e "$commands/units"
fails systemctl is-active nbdkit-qcow2@disk.service
nbdinfo --size "$(uri disk)" | grep -x 104857600
systemctl is-active nbdkit-qcow2@disk.service
grep -x 'nbdkit-qcow2 (enforce)' "/proc/$(pid_of disk)/attr/current"
aa-status > status
sed -n '/processes are in enforce mode/,/processes are in complain/p' status |
    grep 'nbdkit-qcow2'
[ "$(stat -c %U "/proc/$(pid_of disk)")" = nbdkit-qcow2 ]
systemd-analyze security --no-pager nbdkit-qcow2@disk.service | tail -n 1 |
    sed 's/[^ -~]//g'
[ -z "$(denials)" ] || { denials; false; }

step "the kernel is the client: a file system on it"
# The example's settings are for reading.
grep -x 'OPTIONS="-r"' /etc/nbdkit-qcow2/disk.conf
sed -i 's/^OPTIONS=.*/OPTIONS=/' /etc/nbdkit-qcow2/disk.conf
systemctl stop nbdkit-qcow2@disk.service
modprobe nbd
bash -e "$commands/connect"
blockdev --getsize64 /dev/nbd0 | grep -x 104857600
mkfs.ext4 -q /dev/nbd0
mkdir -p /mnt/disk
mount /dev/nbd0 /mnt/disk
cp /usr/bin/nbdkit /mnt/disk/
head -c 20M /dev/urandom > data
cp data /mnt/disk/data
umount /mnt/disk
fsck.ext4 -f -n /dev/nbd0 > /dev/null
bash -e "$commands/disconnect"
systemctl stop nbdkit-qcow2@disk.service
qcow2ctl check "$images/disk.qcow2"
# Of a server that has just been started.
bash -e "$commands/connect"
mount -o ro /dev/nbd0 /mnt/disk
cmp data /mnt/disk/data
cmp /usr/bin/nbdkit /mnt/disk/nbdkit
umount /mnt/disk
bash -e "$commands/disconnect"
[ -z "$(denials)" ] || { denials; false; }
stop_disk disk

step "TLS with certificates, on TCP"
mkdir client stranger
(cd client && bash -e "$commands/certificates") > keys.log 2>&1 ||
    { cat keys.log; false; }
cp client/ca-cert.pem stranger/
new_disk tls "$images/tls.qcow2"
cat "$commands/certificates.conf" >> /etc/nbdkit-qcow2/tls.conf
drop_in nbdkit-qcow2@tls.socket < "$commands/tcp.conf"
systemctl start nbdkit-qcow2@tls.socket
client="$(sed "s|DIR|$PWD/client|" "$commands/certificates.client")"
bash -e <<< "$client" > info
grep 'export-size: 104857600' info
grep -i 'protocol:.* with TLS' info
fails bash -e <<< "${client//client/stranger}"
fails nbdinfo nbd://server.example.com/
fails nbdinfo "$(uri tls)"
bash -e <<< "$client" > info
grep -x 'nbdkit-qcow2 (enforce)' "/proc/$(pid_of tls)/attr/current"
[ -z "$(denials)" ] || { denials; false; }
stop_disk tls

step "TLS with a secret"
mkdir psk
cd psk
bash -e "$commands/psk"
new_disk tls "$images/tls.qcow2"
cat "$commands/psk.conf" >> /etc/nbdkit-qcow2/tls.conf
systemctl start nbdkit-qcow2@tls.socket
bash -e "$commands/psk.client" | grep 'export-size: 104857600'
cd ../stranger
echo "alice:$(openssl rand -hex 32)" > keys.psk
fails bash -e "$commands/psk.client"
cd ../psk
nbdinfo --size "nbds+unix://alice@/?socket=/run/nbdkit-qcow2/tls.sock&tls-psk-file=keys.psk" |
    grep -x 104857600
cd ..
[ -z "$(denials)" ] || { denials; false; }
stop_disk tls

step "an image that systemd allows, and the profile does not"
mkdir -p /srv/images
new_disk else /srv/images/disk.qcow2
drop_in nbdkit-qcow2@else.service < "$commands/else.conf"
systemctl start nbdkit-qcow2@else.socket
fails nbdinfo --size "$(uri else)"
denials > denied
grep 'name="/srv/images/disk.qcow2"' denied
stop_disk else
# What README tells to add.
allow else
systemctl start nbdkit-qcow2@else.socket
nbdcopy data "$(uri else)"
stop_disk else
qcow2ctl check /srv/images/disk.qcow2

step "an image in /home"
useradd --create-home alice
chmod a+x /home/alice
mkdir -m 755 /home/alice/images
new_disk home /home/alice/images/disk.qcow2
allow home
systemctl start nbdkit-qcow2@home.socket
not_served home
stop_disk home
drop_in nbdkit-qcow2@home.service < "$commands/home.conf"
systemctl start nbdkit-qcow2@home.socket
nbdcopy data "$(uri home)"
stop_disk home
qcow2ctl check /home/alice/images/disk.qcow2

step "an image on a block device"
dmsetup create disk --table "0 $(blockdev --getsz /dev/vdb) linear /dev/vdb 0"
udevadm settle
qcow2ctl create /dev/mapper/disk 100M
echo 'IMAGE=/dev/mapper/disk' > /etc/nbdkit-qcow2/device.conf
allow device
systemctl start nbdkit-qcow2@device.socket
not_served device
stop_disk device
drop_in nbdkit-qcow2@device.service < "$commands/device.conf"
systemctl start nbdkit-qcow2@device.socket
nbdcopy data "$(uri device)"
nbdcopy "$(uri device)" copy
cmp -n "$(stat -c %s data)" data copy
stop_disk device
qcow2ctl check /dev/mapper/disk

# Nothing but the one image was ever denied.
[ "$(denials | grep -vc 'name="/srv/images/disk.qcow2"')" -eq 0 ] ||
    { denials; false; }

echo "all well"
