#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two runs of scripts/package, from different folders, with another umask,
# locale and time zone, one of them in a checkout and one in an unpacked archive
# whose files have other times, make the same source archive and the same
# packages of Debian and Fedora, byte for byte.  lintian and rpmlint find
# nothing in them, and the RPM packages have the right files.

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires dpkg-buildpackage dh dh_apparmor lintian rpmbuild rpm

package ()
{
    local from=$1 to=$2

    "$from/scripts/package" deb rpm --no-install --output "$to" \
        > "$tmp/said" 2>&1 || {
        tail -n 60 "$tmp/said"
        fail "scripts/package in $from"
    }
}

# All but what tells about the build.
sums ()
{
    (cd "$1" && sha256sum -- * | grep -vE '\.(buildinfo|changes)$|SHA256SUMS$')
}

check_same ()
{
    diff <(sums "$1") <(sums "$2")
}

package "$top_srcdir" "$tmp/one"
mkdir "$tmp/two folders"
tar -C "$tmp/two folders" -xf "$tmp/one"/nbdkit-qcow2-filter-*.tar.xz
sources=$(echo "$tmp/two folders"/*)
find "$sources" -name '*.[ch]' -exec touch {} +
(umask 077 && TZ=Asia/Tokyo LANG=C.UTF-8 package "$sources" "$tmp/two")
[ "$(sums "$tmp/one" | wc -l)" -ge 11 ] ||
    { ls "$tmp/one"; fail "files are missing"; }
check_same "$tmp/one" "$tmp/two" || fail "two builds differ"
echo "ok: the same files: $(cd "$tmp/one" && echo *)"
(cd "$tmp/one" && sha256sum --quiet -c SHA256SUMS) || fail "wrong sums"
echo >> "$tmp/two/$(cd "$tmp/two" && echo qcow2ctl_*.deb)"
planted "one more byte" "qcow2ctl_" check_same "$tmp/one" "$tmp/two"

lintian --allow-root --fail-on error,warning "$tmp/one"/*.changes ||
    fail "lintian found what is listed above"
echo "ok: lintian finds nothing"

# Fedora's names, without links for debuggers.
rpm_files ()
{
    rpm -qpl "$1" | grep -vE '/\.build-id|/doc/|/licenses/' | sort
}

check_rpm ()
{
    diff - <(rpm_files "$1")
}

filter=$(echo "$tmp/one"/nbdkit-qcow2-filter-*.x86_64.rpm)
if [ -f "$filter" ]; then
    clean check_rpm "$filter" <<'END'
/etc/nbdkit-qcow2
/usr/lib/systemd/system/nbdkit-qcow2@.service
/usr/lib/systemd/system/nbdkit-qcow2@.socket
/usr/lib/sysusers.d/nbdkit-qcow2.conf
/usr/lib/tmpfiles.d/nbdkit-qcow2.conf
/usr/lib64/nbdkit/filters/nbdkit-qcow2-filter.so
/usr/share/man/man1/nbdkit-qcow2-filter.1
/usr/share/man/man1/nbdkit-qcow2-migrating.1
END
    clean check_rpm "$tmp/one"/qcow2ctl-*.x86_64.rpm <<'END'
/usr/bin/nbd-apply-extents
/usr/bin/qcow2ctl
/usr/share/bash-completion/completions/qcow2ctl
/usr/share/man/man1/nbd-apply-extents.1
/usr/share/man/man1/qcow2ctl.1
END
    version=$(pkg-config --modversion nbdkit)
    rpm -qp --requires "$filter" | grep -q "^nbdkit-server.* >= $version\$" ||
        fail "the RPM package does not depend on nbdkit $version"
    rpm -qp --requires "$filter" | grep -q "^nbdkit-server.* < .*~\$" ||
        fail "the RPM package takes any later nbdkit"
    echo "ok: RPM packages"
fi

# What it says of packages that Debian has built with Debian's libraries.
check_rpmlint ()
{
    rpmlint -c "$top_srcdir/packaging/rpm/rpmlint.toml" "$1"/*.rpm \
        > "$tmp/said" 2>&1 || :
    ! grep -E ': [EW]: ' "$tmp/said" || return 1
    grep -q 'packages and 0 specfiles checked; 0 errors, 0 warnings' \
        "$tmp/said" || { cat "$tmp/said"; return 1; }
}

if command -v rpmlint > /dev/null; then
    check_rpmlint "$tmp/one" || fail "rpmlint found what is listed above"
    echo "ok: rpmlint finds nothing"
else
    echo "not run: rpmlint is not installed"
fi
