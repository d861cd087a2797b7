#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The units of systemd are valid and stay locked down; the command of the
# service, with the settings of the example, serves an image on a socket that
# systemd has opened.
#
# tests/packaging/test-deb-long.sh runs the units under systemd itself.

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires systemd-analyze systemd-socket-activate nbdinfo nbdkit

units=$top_srcdir/packaging/systemd
# "systemd-analyze security" rates from 0 to 10; this is ten times that.  The
# unit has 0.4; other versions of systemd weigh differently.
readonly exposure=10

# ---- The units -------------------------------------------------------------

# What is installed by packages, and the filter's manual, may not be here.
check_units ()
{
    rm -rf "$tmp/units"
    mkdir "$tmp/units"
    sed 's|^Documentation=.*||' "$1/nbdkit-qcow2@.service" \
        > "$tmp/units/nbdkit-qcow2@.service"
    sed 's|^Documentation=.*||' "$1/nbdkit-qcow2@.socket" \
        > "$tmp/units/nbdkit-qcow2@.socket"
    systemd-analyze verify "$tmp/units/nbdkit-qcow2@test.service" \
        "$tmp/units/nbdkit-qcow2@test.socket" > "$tmp/said" 2>&1 ||
        { cat "$tmp/said"; return 1; }
    # It has an opinion on units of the system, too.
    if grep 'nbdkit-qcow2' "$tmp/said"; then return 1; fi
}

check_exposure ()
{
    systemd-analyze security --offline=yes --threshold="$exposure" \
        --no-pager "$1/nbdkit-qcow2@.service" > "$tmp/said" 2>&1 || {
        grep '✗' "$tmp/said" || cat "$tmp/said"
        return 1
    }
}

# Names that must be the same in all files.
check_names ()
{
    local user bad=0

    user=$(sed -n 's/^User=//p' "$1/nbdkit-qcow2@.service")
    [ -n "$user" ] || { echo "the service has no user"; return 1; }
    grep -q "^u $user " "$1/nbdkit-qcow2.sysusers" ||
        { echo "no file makes the user $user"; bad=1; }
    grep -q "^d /var/lib/nbdkit-qcow2 0750 $user $user" \
        "$1/nbdkit-qcow2.tmpfiles" ||
        { echo "the folder does not belong to $user"; bad=1; }
    grep -qx "SocketGroup=$user" "$1/nbdkit-qcow2@.socket" ||
        { echo "the socket is not for the group $user"; bad=1; }
    # Without it nbdkit would listen on TCP.
    grep -qx 'Requires=nbdkit-qcow2@%i.socket' "$1/nbdkit-qcow2@.service" ||
        { echo "the service does not require its socket"; bad=1; }
    return $bad
}

copy_units ()
{
    rm -rf "$tmp/copy"
    mkdir "$tmp/copy"
    cp "$units"/* "$tmp/copy/"
    chmod -R u+w "$tmp/copy"
}

clean check_names "$units"
copy_units
sed -i '/^Requires=/d' "$tmp/copy/nbdkit-qcow2@.service"
planted "no socket" "does not require its socket" check_names "$tmp/copy"

clean check_units "$units"
copy_units
sed -i 's/^ProtectSystem=.*/ProtectSystem=full and more/' \
    "$tmp/copy/nbdkit-qcow2@.service"
planted "a wrong value" "full and more" check_units "$tmp/copy"

if systemd-analyze --help | grep -q -- --offline; then
    clean check_exposure "$units"
    copy_units
    sed -i -e '/^PrivateNetwork=/d' -e '/^PrivateUsers=/d' \
        -e '/^RestrictAddressFamilies=/d' -e '/^SystemCallFilter=/d' \
        "$tmp/copy/nbdkit-qcow2@.service"
    planted "less protection" "SystemCallFilter" check_exposure "$tmp/copy"
else
    echo "not run: this systemd rates only units that are loaded"
fi

# ---- The command -----------------------------------------------------------

so=$top_builddir/filter/.libs/nbdkit-qcow2-filter.so
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl
if [ -f "$so" ] && [ -x "$ctl" ]; then
    "$ctl" create "$tmp/my disk.qcow2" 7M
    # What the example says, but for the image.
    (
        set -a
        # shellcheck source=/dev/null
        . "$units/example.conf"
        # shellcheck disable=SC2030
        IMAGE="$tmp/my disk.qcow2"
        command=$(sed -n 's/^ExecStart=//p' "$units/nbdkit-qcow2@.service")
        # The filter of this build, and systemd's way with words: ${IMAGE} is
        # one, $OPTIONS several.
        words=()
        for word in $command; do
            # shellcheck disable=SC2016     # As the unit has them.
            case $word in
            --filter=qcow2) words+=("--filter=$so") ;;
            'file=${IMAGE}') words+=("file=$IMAGE") ;;
            '$OPTIONS') read -r -a some <<< "$OPTIONS"
                        words+=("${some[@]}") ;;
            *'$'*) echo "unknown: $word" > "$tmp/bad" ;;
            *) words+=("$word") ;;
            esac
        done
        exec systemd-socket-activate --listen="$tmp/disk.sock" "${words[@]}" \
            > "$tmp/server" 2>&1
    ) &
    server=$!
    trap 'kill "$server" 2>/dev/null || :; rm -rf "$tmp"' EXIT
    for _ in {1..1200}; do
        [ ! -S "$tmp/disk.sock" ] || break
        sleep 0.05
    done
    nbdinfo --json "nbd+unix:///?socket=$tmp/disk.sock" > "$tmp/info" ||
        { cat "$tmp/server"; fail "it does not serve"; }
    [ ! -e "$tmp/bad" ] || fail "$(cat "$tmp/bad")"
    grep -q '"export-size": 7340032' "$tmp/info" ||
        { cat "$tmp/info"; fail "it serves another disk"; }
    grep -q '"is_read_only": true' "$tmp/info" ||
        { cat "$tmp/info"; fail "the example's options are not used"; }
    kill "$server"
    wait "$server" || :
    echo "ok: the command of the service serves an image"
else
    echo "not run: this build has no filter, or no qcow2ctl"
fi
