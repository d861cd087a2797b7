#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2 images in RBD images of a Ceph cluster, which qemu-nbd serves and
# nbdkit's nbd plugin reads: the right data, and few requests.  And disks that
# are imported into RBD images: docs/PIPELINES.md has these commands.
#
# The cluster is one monitor and one OSD with its data in memory, in $tmp and
# on ports of 127.0.0.1, with cephx as in a real one.  All of it is killed
# whenever the test ends.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

skip_if_instrumented "once is enough"
requires_plugin nbd
packages="ceph-mon ceph-osd ceph-common qemu-block-extra"
requires_program jq
for program in ceph ceph-authtool ceph-mon ceph-osd monmaptool rbd; do
    [ -n "$(type -P "$program")" ] ||
        skip "$program is not installed: it needs the packages $packages"
done
qemu-img --help | grep -q '^Supported formats:.* rbd\b' ||
    skip "QEMU knows no RBD: it needs the packages $packages"

dir=$tmp/ceph
conf=$dir/conf
mkdir -p "$dir/mon" "$dir/osd"
export CEPH_CONF=$conf
unset CEPH_ARGS
# A command without a server would wait for minutes.
ceph=(timeout "$patience" ceph --name client.admin)

# configure PORT: the monitor's port; the OSD finds ports itself.
configure ()
{
    cat >"$conf" <<END
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$1
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
run dir = $dir
log file = $tmp/\$name.log
admin socket = $dir/\$name.\$pid.asok
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
[mon]
mon data = $dir/mon
[osd]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 1073741824
[client]
keyring = $dir/admin.keyring
log file = $tmp/client.log
admin socket =
END
}

# start_daemon PROGRAM ARGUMENT...: start a daemon that does not outlive this
# shell, even if that is killed; sets 'daemon'.
start_daemon ()
{
    setpriv --pdeathsig KILL "$@" </dev/null >>"$tmp/daemons.log" 2>&1 &
    daemon=$!
    cleanup_fn kill_daemon "$daemon"
}

# No data is kept, so they are killed: qemu-nbd, asked to end, would wait for
# ever for a cluster that has ended meanwhile.
kill_daemon ()
{
    { kill -KILL "$1" && wait "$1"; } 2>/dev/null || true
}

# The daemon that was started last must be alive until the command succeeds.
wait_for_daemon ()
{
    local end=$((SECONDS + patience * 2))

    while [ "$SECONDS" -lt "$end" ]; do
        kill -0 "$daemon" 2>/dev/null || return 1
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.2
    done
    return 1
}

mon_leads ()
{
    timeout 5 ceph --admin-daemon "$dir/mon.a.$daemon.asok" mon_status |
        grep '"state": "leader"'
}

osd_is_up ()
{
    "${ceph[@]}" osd stat | grep ' 1 up'
}

start_mon ()
{
    local port try

    fsid=$(cat /proc/sys/kernel/random/uuid)
    ceph-authtool -C "$dir/mon.keyring" --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool -C "$dir/admin.keyring" --gen-key -n client.admin \
        --cap mon 'allow *' --cap osd 'allow *'
    ceph-authtool "$dir/mon.keyring" --import-keyring "$dir/admin.keyring"
    for try in 1 2 3 4 5; do
        port=$((20000 + (RANDOM + try) % 12000))
        configure "$port"
        rm -rf "$dir/mon" "$dir/monmap"
        mkdir "$dir/mon"
        monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$port]" \
            "$dir/monmap"
        ceph-mon --mkfs -i a --monmap "$dir/monmap" \
            --keyring "$dir/mon.keyring"
        start_daemon ceph-mon -i a -f
        # It ends at once if the port is in use.
        ! wait_for_daemon mon_leads || return 0
        kill_daemon "$daemon"
    done
    broken "the monitor does not start"
}

start_osd ()
{
    local uuid secret

    uuid=$(cat /proc/sys/kernel/random/uuid)
    secret=$(ceph-authtool --gen-print-key)
    echo "{\"cephx_secret\": \"$secret\"}" >"$dir/secrets"
    "${ceph[@]}" osd new "$uuid" -i "$dir/secrets"
    ceph-authtool -C "$dir/osd/keyring" -n osd.0 --add-key "$secret"
    ceph-osd -i 0 --mkfs --osd-uuid "$uuid"
    start_daemon ceph-osd -i 0 -f
    wait_for_daemon osd_is_up || broken "the OSD does not start"
}

# start_rbd NAME OPTION...: qemu-nbd on $tmp/NAME.sock for the image of that name.
start_rbd ()
{
    local name=$1

    shift
    rbd="rbd:rbd/$name:conf=$conf"
    rm -f "$tmp/$name.sock"
    start_daemon qemu-nbd "$@" -f raw -k "$tmp/$name.sock" "$rbd"
    wait_for_daemon test -S "$tmp/$name.sock" ||
        broken "qemu-nbd does not serve $rbd"
}

# check_volume NAME: what Ceph's own program reads.
check_volume ()
{
    timeout 60 rbd export --no-progress "rbd/$1" "$tmp/volume"
    cmp "$tmp/volume" "$tmp/disk.raw" || fail "$1: wrong data"
    rm "$tmp/volume"
}

# A disk with holes, as in a file system.
make_real "$tmp/data" $((48 * M))
qemu-img create -q -f raw "$tmp/disk.raw" 64M
dd if="$tmp/data" of="$tmp/disk.raw" bs=1M seek=3 conv=notrunc,sparse status=none
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c

{
    start_mon
    start_osd
    "${ceph[@]}" osd pool create rbd 8
    timeout 60 rbd pool init rbd
} >"$tmp/commands.log" 2>&1
echo "ceph runs after $SECONDS s"

for name in plain packed; do
    timeout 60 rbd import --no-progress "$tmp/$name.qcow2" "rbd/$name"
    start_rbd "$name" -r -t -e 8

    seen=0
    rm -f "$tmp/requests"
    start_nbdkit --filter="$filter" --filter=log nbd \
        socket="$tmp/$name.sock" logfile="$tmp/requests"
    copy --connections=4
    copy_took_few_requests "$tmp/$name.qcow2" "$name: copy" 16
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 50 --only-random
    stop_nbdkit

    # QEMU reads the same RBD image.
    rm -f "$tmp/copy"
    timeout 60 qemu-img convert -f qcow2 -O raw "$rbd" "$tmp/copy"
    cmp "$tmp/copy" "$tmp/disk.raw" || fail "$name: QEMU reads other data"
done

echo "into a new RBD image, through qemu-nbd"
size=$(stat -c %s "$tmp/disk.raw")
timeout 60 rbd create --size "${size}B" rbd/volume
start_rbd volume --discard=unmap
start_nbdkit -r --filter="$filter" file "$tmp/packed.qcow2"
timeout 60 nbdcopy --destination-is-zero "$uri" \
    "nbd+unix:///?socket=$tmp/volume.sock"
check_volume volume
# Holes are not written: at least the 12 MiB without data.
used=$(timeout 60 rbd du --format json rbd/volume | jq '.images[0].used_size')
echo "$used bytes of the volume's $size are in use"
[ "$used" -le $((size - 8 * M)) ] || fail "holes were written"

echo "by QEMU's client, and through a pipe"
timeout 60 rbd create --size "${size}B" rbd/converted
qemu-img convert -n -f raw -O raw "$uri" "rbd:rbd/converted:conf=$conf"
check_volume converted
timeout 60 nbdcopy "$uri" - |
    timeout 60 rbd import --no-progress --image-format 2 - rbd/piped
check_volume piped

echo "over what another disk has left"
timeout 60 rbd create --size "${size}B" rbd/used
timeout 60 rbd bench --io-type write --io-size 4M --io-total "${size}B" \
    rbd/used >/dev/null
start_rbd used --discard=unmap
timeout 60 nbdcopy "$uri" "nbd+unix:///?socket=$tmp/used.sock"
check_volume used
stop_nbdkit
