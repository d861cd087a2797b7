#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The units of systemd are valid and stay locked down; the command of the
# service, with the settings of the example, serves an image on a socket that
# systemd has opened; and with those for TLS of packaging/README.md.
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

# setting SECTION NAME FILE: the last one that is there; times in microseconds.
setting ()
{
    local value

    value=$(awk -F = -v section="[$1]" -v name="$2" '
        /^\[/ { on = ($0 == section) }
        on && $1 == name { value = $2 } END { print value }' "$3")
    case $2 in
    *Sec) systemd-analyze timespan -- "$value" 2>/dev/null |
              sed -n 's/^ *[^ ]*s: *//p' ;;
    *) echo "$value" ;;
    esac
}

# It is not started for ever, even if each start and each end take as long as
# they may.  All numbers are the unit's own: those of the system may differ.
check_limit ()
{
    local name value file=$1/nbdkit-qcow2@.service
    local -A is=()

    for name in StartLimitBurst StartLimitIntervalSec; do
        is[$name]=$(setting Unit $name "$file")
    done
    for name in RestartSec TimeoutStartSec TimeoutStopSec; do
        is[$name]=$(setting Service $name "$file")
    done
    for name in "${!is[@]}"; do
        value=${is[$name]}
        [[ $value =~ ^[1-9][0-9]{0,14}$ ]] ||
            { echo "$name is not a bound: '$value'"; return 1; }
    done
    value=$((is[StartLimitBurst] * (is[RestartSec] + is[TimeoutStartSec] +
                                    is[TimeoutStopSec])))
    [ "${is[StartLimitIntervalSec]}" -gt "$value" ] || {
        echo "${is[StartLimitBurst]} starts can take $((value / 1000000)) s:" \
             "it may be started for ever"
        return 1
    }
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

clean check_limit "$units"
copy_units
sed -i '/^StartLimitIntervalSec=/d' "$tmp/copy/nbdkit-qcow2@.service"
planted "no interval" "StartLimitIntervalSec is not a bound" \
    check_limit "$tmp/copy"
copy_units
sed -i 's/^StartLimitIntervalSec=.*/StartLimitIntervalSec=0/' \
    "$tmp/copy/nbdkit-qcow2@.service"
planted "no limit" "StartLimitIntervalSec is not a bound" \
    check_limit "$tmp/copy"
copy_units
sed -i 's/^RestartSec=.*/RestartSec=5min/' "$tmp/copy/nbdkit-qcow2@.service"
planted "long pauses" "started for ever" check_limit "$tmp/copy"
copy_units
sed -i 's/^TimeoutStartSec=.*/TimeoutStartSec=infinity/' \
    "$tmp/copy/nbdkit-qcow2@.service"
planted "endless starts" "TimeoutStartSec is not a bound" \
    check_limit "$tmp/copy"

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
if ! [ -f "$so" ] || ! [ -x "$ctl" ]; then
    echo "not run: this build has no filter, or no qcow2ctl"
    exit 0
fi
"$ctl" create "$tmp/my disk.qcow2" 7M

# As root: another user, who can read what the group of the service can.
as_user=()
group=$(id -gn)
if [ "$(id -u)" -eq 0 ]; then
    group=65534
    as_user=(setpriv "--reuid=$group" "--regid=$group" --clear-groups)
    chmod 755 "$tmp"
    cp "$so" "$tmp/"
    so=$tmp/${so##*/}
fi

server=
end_server ()
{
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
    wait
    server=
}
trap 'end_server; rm -rf "$tmp"' EXIT

# activate OPTIONS LISTEN...: the service with these options, on these sockets
# of systemd; by default the options of the example.
activate ()
{
    local options=$1 word listen

    shift
    rm -f "$tmp/disk.sock"
    (
        set -a
        # shellcheck source=/dev/null
        . "$units/example.conf"
        # shellcheck disable=SC2030
        IMAGE="$tmp/my disk.qcow2"
        OPTIONS=${options:-$OPTIONS}
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
        for listen; do sockets+=("--listen=$listen"); done
        exec systemd-socket-activate "${sockets[@]}" "${as_user[@]}" \
            "${words[@]}" > "$tmp/server" 2>&1
    ) &
    server=$!
    for _ in {1..1200}; do
        [ ! -S "$tmp/disk.sock" ] || break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
}

# served URI: says what is there.
served ()
{
    nbdinfo --json "$1" > "$tmp/info" ||
        { cat "$tmp/server"; fail "it does not serve $1"; }
    [ ! -e "$tmp/bad" ] || fail "$(cat "$tmp/bad")"
    grep -q '"export-size": 7340032' "$tmp/info" ||
        { cat "$tmp/info"; fail "it serves another disk"; }
}

refused ()
{
    ! nbdinfo --json "$1" > "$tmp/info" 2> "$tmp/said" ||
        fail "$1 is served"
}

activate "" "$tmp/disk.sock"
served "nbd+unix:///?socket=$tmp/disk.sock"
grep -q '"is_read_only": true' "$tmp/info" ||
    { cat "$tmp/info"; fail "the example's options are not used"; }
end_server
echo "ok: the command of the service serves an image"

# ---- TLS -------------------------------------------------------------------

# tls_lines KIND NUMBER: that block of the section in the README, "console" for
# the lines that root types, "sh" for settings; for us, in our folders.
tls_lines ()
{
    readme_block TLS "$1" "$2" |
        sed -e "s|/etc/pki/nbdkit|$tmp/pki|" -e "s|-g nbdkit-qcow2|-g $group|" \
            -e "s|DNS:[$]who.example.com|DNS:localhost|"
}

# make_keys NUMBER: runs the commands of a block; sets 'options'.
make_keys ()
{
    tls_lines console "$1" > "$tmp/commands"
    [ -s "$tmp/commands" ] || fail "the README has no commands for TLS"
    (cd "$tmp/client" && bash -e "$tmp/commands") > "$tmp/said" 2>&1 ||
        { cat "$tmp/said"; fail "keys cannot be made"; }
    options=$(tls_lines sh $((($1 + 1) / 2)) | sed -n 's/^OPTIONS="\(.*\)"/\1/p')
    [ -n "$options" ] || fail "the README has no settings for TLS"
    [ "$(stat -c %a "$tmp/pki" "$tmp/pki"/* | sort -u | paste -sd ' ')" \
        = "640 750" ] || { ls -l "$tmp/pki"; fail "others can read the keys"; }
}

if ! nbdkit --dump-config | grep -qx 'tls=yes' ||
        ! [ "$(openssl version 2>/dev/null | cut -c 1-9)" = "OpenSSL 3" ]; then
    echo "not run: TLS, which needs OpenSSL 3, and nbdkit with GnuTLS"
    exit 0
fi
mkdir "$tmp/client" "$tmp/stranger"
make_keys 1
[ ! -e "$tmp/pki/ca-key.pem" ] || fail "the server has the authority's key"
# Another socket may have the port.
for try in 1 2 3 4 5; do
    port=$((20000 + (RANDOM + try) % 20000))
    activate "$options" "127.0.0.1:$port" "$tmp/disk.sock"
    [ ! -S "$tmp/disk.sock" ] || break
    end_server
done
cp "$tmp/client/ca-cert.pem" "$tmp/stranger/"
served "nbds://localhost:$port/?tls-certificates=$tmp/client"
refused "nbds://localhost:$port/?tls-certificates=$tmp/stranger"
refused "nbd://localhost:$port"
refused "nbd+unix:///?socket=$tmp/disk.sock"
served "nbds://localhost:$port/?tls-certificates=$tmp/client"
end_server
echo "ok: TLS with certificates"

rm -r "$tmp/pki"
make_keys 3
activate "$options" "$tmp/disk.sock"
echo "alice:$(openssl rand -hex 32)" > "$tmp/stranger/keys.psk"
uri="nbds+unix://alice@/?socket=$tmp/disk.sock&tls-psk-file"
served "$uri=$tmp/client/keys.psk"
refused "$uri=$tmp/stranger/keys.psk"
served "$uri=$tmp/client/keys.psk"
end_server
echo "ok: TLS with a secret"
