#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The profile of AppArmor compiles, also with each of the lines for local/ that
# packaging/README.md has, and allows what that page says works.  Where the
# kernel has AppArmor, nbdkit serves on TCP under it, and can open nothing else.

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires apparmor_parser awk
[ -e /etc/apparmor.d/abstractions/base ] ||
    skip "needs the abstractions of AppArmor"

profile=$top_srcdir/packaging/apparmor/nbdkit-qcow2

# ---- What it allows --------------------------------------------------------

check_compiles ()
{
    apparmor_parser --skip-kernel-load --skip-cache --quiet "$1" 2>&1
}

# The rules after all files are included, one in each line.
rules ()
{
    apparmor_parser --skip-kernel-load --skip-cache --quiet --preprocess "$1" \
        2> "$tmp/parser" | sed -n 's/^  *\([^# ].*,\) *$/\1/p' | tr -s ' ' |
        sort -u
}

# Version 3 of the parser prints what it has made of them, too: one line with
# all families.
check_network ()
{
    local family kind bad=0

    rules "$1" > "$tmp/rules"
    apparmor_parser --skip-kernel-load --skip-cache --quiet --debug "$1" \
        > "$tmp/compiled" 2>&1
    for family in inet inet6; do
        for kind in stream dgram; do
            grep -qx "network $family $kind," "$tmp/rules" ||
                { echo "no rule: network $family $kind"; bad=1; }
            ! grep -aq '^Network:' "$tmp/compiled" ||
                grep -aqE "^Network:.* $family \{[^}]* $kind " \
                     "$tmp/compiled" ||
                { echo "not compiled: network $family $kind"; bad=1; }
        done
    done
    return $bad
}

# Names, certificates, and keys.
check_reads ()
{
    local text bad=0

    rules "$1" > "$tmp/rules"
    while IFS= read -r text; do
        grep -qF -- "$text" "$tmp/rules" || { echo "no rule: $text"; bad=1; }
    done <<'RULES'
/etc/pki/nbdkit/{,**} r,
ssl/certs/{,**} r,
/resolv.conf r,
/hosts r,
/etc/ssl/openssl.cnf r,
/etc/ssh/ssh_known_hosts r,
/var/lib/nbdkit-qcow2/** rwk,
RULES
    return $bad
}

sed 's|rwk,|rwq,|' "$profile" > "$tmp/wrong"
sed -e '/^ *network /d' -e '/nameservice/d' "$profile" > "$tmp/alone"
sed -e '/^ *\/etc\/pki/d' "$profile" > "$tmp/no-keys"
clean check_compiles "$profile"
planted "a wrong rule" "syntax error" check_compiles "$tmp/wrong"
clean check_network "$profile"
planted "no network" "no rule: network inet stream" check_network "$tmp/alone"
clean check_reads "$profile"
planted "no certificates" "no rule: /etc/pki/nbdkit/{,**} r," \
    check_reads "$tmp/no-keys"

# ---- Lines for local/ ------------------------------------------------------

# The last column of the table in the README, one line for each rule.
local_lines ()
{
    awk -F'|' '/^\| for \| in/ { on = 1; next }
               ! /^\|/ { on = 0 }
               on { n = split ($4, part, "`")
                    for (i = 2; i <= n; i += 2) print part[i] }' "$1"
}

check_local ()
{
    local line number=0 bad=0

    local_lines "$1" > "$tmp/lines"
    while IFS= read -r line; do
        echo "  $line" > "$tmp/line"
        sed -e "/include if exists <local/{ r $tmp/line
            d; }" "$profile" > "$tmp/with"
        check_compiles "$tmp/with" ||
            { echo "does not compile: $line"; bad=1; }
        number=$((number + 1))
    done < "$tmp/lines"
    [ "$number" -ge 5 ] || { echo "$number lines for local/"; bad=1; }
    return $bad
}

readme=$top_srcdir/packaging/README.md
clean check_local "$readme"
sed "s|{,\*\*} rwk,|{,**} rwk|" "$readme" > "$tmp/README.md"
planted "a rule without a comma" "does not compile: /srv/images" \
    check_local "$tmp/README.md"

# ---- Under it --------------------------------------------------------------

so=$top_builddir/filter/.libs/nbdkit-qcow2-filter.so
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl
name=q2-test-$$

reason_not_to ()
{
    local program

    if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y ]
    then
        echo "this kernel has no AppArmor"
    elif [ "$(id -u)" -ne 0 ]; then
        echo "loading a profile needs root"
    elif [ ! -w /sys/kernel/security/apparmor/.replace ]; then
        echo "profiles cannot be loaded here"
    elif [ ! -f "$so" ] || [ ! -x "$ctl" ]; then
        echo "this build has no filter, or no qcow2ctl"
    else
        for program in aa-exec nbdkit nbdcopy; do
            [ -n "$(type -P "$program")" ] || echo "$program is not installed"
        done
    fi
}

leave ()
{
    [ -z "${server-}" ] || kill "$server" 2>/dev/null || :
    wait
    apparmor_parser --remove "$tmp/loaded" 2>/dev/null || :
    rm -rf "$tmp"
}

# serve IMAGE: on the first port that is free; fails if it ends.
serve ()
{
    local try

    for try in 1 2 3 4 5; do
        port=$((20000 + (RANDOM + try) % 20000))
        aa-exec -p "$name" -- "$(type -P nbdkit)" --foreground -i 127.0.0.1 \
            -p "$port" --filter="$so" file "$1" > "$tmp/server" 2>&1 &
        server=$!
        for _ in {1..600}; do
            kill -0 "$server" 2>/dev/null || break
            ! : 2>/dev/null < "/dev/tcp/127.0.0.1/$port" || return 0
            sleep 0.05
        done
        grep -q 'already in use' "$tmp/server" || break
    done
    return 1
}

reason=$(reason_not_to)
if [ -n "$reason" ]; then
    echo "not run: a server under it: ${reason//$'\n'/, }"
    exit 0
fi
mkdir "$tmp/images" "$tmp/elsewhere"
cat > "$tmp/line" <<END
  $(realpath "$(type -P nbdkit)") mr,
  $(realpath "$so") mr,
  $tmp/images/{,**} rwk,
  $tmp/server w,
END
sed -e "s/^profile nbdkit-qcow2 /profile $name /" \
    -e "/include if exists <local/{ r $tmp/line
        d; }" "$profile" > "$tmp/loaded"
trap leave EXIT
apparmor_parser --add --skip-cache "$tmp/loaded" ||
    fail "the profile does not load"
for folder in images elsewhere; do
    "$ctl" create "$tmp/$folder/disk.qcow2" 4M
done
head -c 4M /dev/urandom > "$tmp/data"
serve "$tmp/images/disk.qcow2" ||
    { cat "$tmp/server"; fail "it does not serve on TCP"; }
grep -q "^$name (enforce)" "/proc/$server/attr/current" ||
    fail "the server is not confined"
nbdcopy -- "$tmp/data" "nbd://127.0.0.1:$port" || fail "it does not write"
nbdcopy -- "nbd://127.0.0.1:$port" "$tmp/copy" || fail "it does not read"
cmp "$tmp/data" "$tmp/copy" || fail "wrong data"
kill "$server"
wait "$server" || :
server=
echo "ok: served on TCP under the profile"

if serve "$tmp/elsewhere/disk.qcow2" &&
        nbdcopy -- "nbd://127.0.0.1:$port" "$tmp/other" 2> "$tmp/said"; then
    fail "it serves an image that the profile does not allow"
fi
grep -q 'Permission denied' "$tmp/server" ||
    { cat "$tmp/server"; fail "the image is not refused by the profile"; }
echo "ok: no other image"
