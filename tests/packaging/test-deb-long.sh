#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# In Debian 12, 13 and sid: scripts/package builds packages that lintian has
# nothing to say about; they install in a root that has nothing else, with the
# nbdkit that they need; they serve, also under systemd with all of the unit's
# protection; images survive their removal.
#
# Suites are chosen with QCOW2_COMPAT_SUITES; see roots.sh.  Systemd boots in a
# container, for which the package systemd-container is needed; without it that
# part is skipped.

# shellcheck source=tests/packaging/debs.sh
. "$(dirname "$0")/debs.sh"

build ()
{
    build_debs
    quiet in_root apt-get install -q -y --no-install-recommends lintian
    quiet in_root sh -c \
        'lintian --allow-root --fail-on error,warning /build/out/*.changes'
    echo "$suite: lintian finds nothing"
}

install ()
{
    local depends version

    install_debs libnbd-bin
    version=$(in_root nbdkit --version)
    version=${version#nbdkit }
    depends=$(dpkg-deb -f "$tmp/debs"/nbdkit-*.deb Depends)
    grep -qF "nbdkit (>= ${version%% *}), nbdkit (<< " <<< "$depends" ||
        fail "$suite: nbdkit is $version, but it depends on $depends"
    echo "$suite: installed with nbdkit $version"
}

# Without systemd.
use ()
{
    cp "$top_srcdir/packaging/debian/tests/serve" "$root/debs/"
    quiet in_root /debs/serve
    quiet in_root qcow2ctl --help
    # shellcheck disable=SC2016     # nbdkit's shell expands it.
    quiet in_root sh -c 'cd /tmp && nbdkit -r -U - --filter=qcow2 file \
        disk.qcow2 --run "nbdinfo --map \"\$uri\""'
    echo "$suite: used"
}

# The program that runs in the container, started by systemd.
make_program ()
{
    cat > "$root/debs/boot" <<'END'
#!/bin/bash
set -e
exec > /debs/said 2>&1
trap 'echo "failed: line $LINENO"; journalctl --no-pager -b | tail -n 60' ERR
uri () { echo "nbd+unix:///?socket=/run/nbdkit-qcow2/$1.sock"; }
# "! command" would not end this program.
fails () { if "$@"; then return 1; fi; }
id nbdkit-qcow2
cd /var/lib/nbdkit-qcow2
stat -c '%U %a' . | grep -x 'nbdkit-qcow2 750'
qcow2ctl create disk.qcow2 100M
chown nbdkit-qcow2: disk.qcow2
grep '^IMAGE=/var/lib/nbdkit-qcow2/disk.qcow2$' \
    /usr/share/doc/nbdkit-qcow2-filter/examples/example.conf
echo 'IMAGE=/var/lib/nbdkit-qcow2/disk.qcow2' > /etc/nbdkit-qcow2/disk.conf

echo "--- written to"
systemctl start nbdkit-qcow2@disk.socket
fails systemctl is-active nbdkit-qcow2@disk.service
head -c 5M /dev/urandom > /tmp/data
nbdcopy /tmp/data "$(uri disk)"
systemctl is-active nbdkit-qcow2@disk.service
pid=$(systemctl show -P MainPID nbdkit-qcow2@disk.service)
[ "$(stat -c %U "/proc/$pid")" = nbdkit-qcow2 ]
grep -E '^(NoNewPrivs:.1|Seccomp:.2|CapEff:.0+)$' "/proc/$pid/status" |
    wc -l | grep -x 3
# It listens nowhere else.
fails grep -i ':2A39 ' /proc/net/tcp /proc/net/tcp6
systemctl stop nbdkit-qcow2@disk.service nbdkit-qcow2@disk.socket
[ ! -e /run/nbdkit-qcow2/disk.sock ]
qcow2ctl check disk.qcow2

echo "--- read, and the service first"
echo 'OPTIONS="-r qcow2-lock=off"' >> /etc/nbdkit-qcow2/disk.conf
systemctl start nbdkit-qcow2@disk.service
[ "$(stat -c '%U %G %a' /run/nbdkit-qcow2/disk.sock)" \
    = "nbdkit-qcow2 nbdkit-qcow2 660" ]
nbdinfo "$(uri disk)" | tee /tmp/info
grep 'is_read_only: true' /tmp/info
nbdcopy "$(uri disk)" /tmp/copy
cmp -n 5242880 /tmp/data /tmp/copy
systemctl stop nbdkit-qcow2@disk.socket

echo "--- elsewhere"
mkdir -p /srv/images
qcow2ctl create /srv/images/disk.qcow2 1M
chown -R nbdkit-qcow2: /srv/images
echo 'IMAGE=/srv/images/disk.qcow2' > /etc/nbdkit-qcow2/else.conf
systemctl start nbdkit-qcow2@else.socket
fails nbdcopy -- /debs/boot "$(uri else)"
mkdir -p /etc/systemd/system/nbdkit-qcow2@else.service.d
printf '[Service]\nReadWritePaths=/srv/images\n' \
    > /etc/systemd/system/nbdkit-qcow2@else.service.d/override.conf
systemctl daemon-reload
systemctl reset-failed
systemctl restart nbdkit-qcow2@else.socket
nbdcopy -- /debs/boot "$(uri else)"
systemctl stop nbdkit-qcow2@else.socket nbdkit-qcow2@else.service

echo "--- a server that fails, slowly, each time"
mkdir -p /etc/systemd/system/nbdkit-qcow2@disk.service.d
cat > /etc/systemd/system/nbdkit-qcow2@disk.service.d/override.conf <<'END2'
[Unit]
StartLimitBurst=5
[Service]
ExecStart=
ExecStart=sh -c 'sleep 3; exit 1'
END2
systemctl daemon-reload
systemctl reset-failed 'nbdkit-qcow2@disk.*'
systemctl start nbdkit-qcow2@disk.socket
fails timeout 90 nbdinfo "$(uri disk)"
systemctl show -P Result nbdkit-qcow2@disk.socket |
    grep -x service-start-limit-hit
rm /etc/systemd/system/nbdkit-qcow2@disk.service.d/override.conf
systemctl daemon-reload
# It stays so, also for a client.
fails nbdinfo "$(uri disk)"
# What README says.
bash -e /debs/again
nbdinfo --size "$(uri disk)" | grep -x 104857600
systemctl stop nbdkit-qcow2@disk.socket nbdkit-qcow2@disk.service

echo "--- no settings"
fails systemctl start nbdkit-qcow2@typo.socket

systemctl enable nbdkit-qcow2@disk.socket
systemctl disable nbdkit-qcow2@disk.socket
echo "all well"
END
    chmod +x "$root/debs/boot"
    readme_block "The units of systemd" console 2 > "$root/debs/again"
    grep -q reset-failed "$root/debs/again" ||
        fail "the README does not say how a failed service is started again"
    cat > "$root/etc/systemd/system/boot-test.service" <<'END'
[Unit]
After=basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/debs/boot
TimeoutStartSec=300
[Install]
WantedBy=multi-user.target
END
}

# With systemd, and what the units forbid.  Systemd since 258 boots only with
# the unified hierarchy of control groups, which this machine may lack.
use_units ()
{
    local reason

    command -v systemd-nspawn > /dev/null || {
        echo "$suite: SKIP: units: needs systemd-nspawn, systemd-container"
        return
    }
    quiet in_root apt-get install -q -y --no-install-recommends \
        systemd systemd-sysv dbus
    quiet in_root systemd-analyze verify --man=no nbdkit-qcow2@disk.service \
        nbdkit-qcow2@disk.socket
    make_program
    quiet in_root systemctl enable boot-test.service
    rm -f "$root/debs/said"
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout --kill-after=10 400 \
        systemd-nspawn --quiet --register=no \
        --keep-unit --private-network --machine="q2-$suite-$$" \
        --boot --directory="$root" systemd.firstboot=off \
        < /dev/null > "$tmp/boot" 2>&1 || :
    [ -s "$root/debs/said" ] || {
        reason=$(grep -aiE -m 1 'not permitted|cgroup' "$tmp/boot" || :)
        if [ -n "$reason" ]; then
            echo "$suite: SKIP: units: systemd does not boot here: $reason"
            return
        fi
        tail -n 40 "$tmp/boot"
        fail "$suite: systemd did not boot"
    }
    grep -qx 'all well' "$root/debs/said" ||
        { cat "$root/debs/said"; fail "$suite: under systemd"; }
    echo "$suite: used under systemd"
}

remove ()
{
    local left

    mkdir -p "$root/var/lib/nbdkit-qcow2"
    echo image > "$root/var/lib/nbdkit-qcow2/kept.qcow2"
    quiet in_root apt-get purge -q -y nbdkit-qcow2-filter qcow2ctl
    left=$(find "$root/etc" "$root/usr" -name '*qcow2-filter*' \
               -o -name 'nbdkit-qcow2@*' -o -name nbdkit-qcow2.conf \
               -o -name qcow2ctl | grep -vE '/etc/(systemd|apt)/' || :)
    [ -z "$left" ] || fail "$suite: left behind: $left"
    [ -f "$root/var/lib/nbdkit-qcow2/kept.qcow2" ] ||
        fail "$suite: an image is gone"
    quiet in_root nbdkit null --run true
    ! in_root nbdkit --filter=qcow2 null --run true 2>/dev/null ||
        fail "$suite: the filter is still there"
    echo "$suite: removed"
}

try ()
{
    new_root "$1" "build-$1" --minimal || return $?
    build
    clean_root "build-$1"
    new_root "$1" "use-$1" --minimal || return $?
    install
    use
    use_units
    remove
    clean_root "use-$1"
}

each_suite try
