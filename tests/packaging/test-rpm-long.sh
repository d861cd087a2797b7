#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# In Debian 12, 13 and sid: scripts/package makes RPM packages from the spec
# file, of which rpmlint has nothing to say.  They have the files that the spec
# file lists.  In another root, that has nothing else, rpm installs them if the
# nbdkit is the right one and refuses to if not, they serve, an update of
# nbdkit has to wait for them, and images survive their removal.
#
# Debian has no packages that rpm knows, so a package "debian" is made, with
# nothing in it: it provides what Debian's packages have in the root, under the
# names that Fedora's would have, libraries as rpm's own elfdeps sees them.  So
# rpm checks all dependencies; --nodeps is for building alone.  What this does
# not show: Fedora's own macros, libraries and nbdkit, which are not here, and
# systemd's file triggers, in whose place the test calls the same programs.
#
# Suites are chosen with QCOW2_COMPAT_SUITES; see roots.sh.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"

build ()
{
    quiet copy_source "$root/build/src"
    quiet in_root apt-get update -q
    quiet in_root /build/src/scripts/package rpm --output /build/out
    rm -rf "$tmp/rpms"
    mkdir "$tmp/rpms"
    cp "$root"/build/out/{nbdkit-qcow2-filter,qcow2ctl}-[0-9]*[!c].rpm \
        "$tmp/rpms/"
    echo "$suite: built: $(cd "$root/build/out" && echo *.rpm)"
}

# rpmlint is a package of Debian in all of these releases.  The rpm of Debian 12
# makes no packages for debuggers and leaves names in programs, and its rpmlint
# does not find manuals that "has" finds.
lint ()
{
    local known='nothing'

    [ "$suite" != bookworm ] ||
        known='unstripped-binary-or-object|no-manual-page-for-binary'
    quiet in_root apt-get install -q -y --no-install-recommends rpmlint
    quiet in_root sh -c 'cd /build/src/packaging/rpm && rpmlint \
        -c rpmlint.toml nbdkit-qcow2-filter.spec /build/out/*.rpm'
    if grep -E ': [EW]: ' "$tmp/log" | grep -vE "$known"; then
        fail "$suite: rpmlint"
    fi
    grep -qE '[345] packages and 1 specfiles checked; 0 errors' "$tmp/log" ||
        { cat "$tmp/log"; fail "$suite: rpmlint does not end"; }
    echo "$suite: rpmlint finds nothing"
}

# has PACKAGE FILE...: these, at the ends of their names, and nothing else but
# documentation.
has ()
{
    local package=$1 f list

    shift
    list=$(in_root sh -c "rpm -qlp /build/out/$package-[0-9]*[!c].rpm" |
               grep -vE '/(doc|licenses|\.build-id)(/|$)')
    for f; do
        grep -qE "$f\$" <<< "$list" || fail "$suite: $package lacks $f"
        list=$(grep -vE "$f\$" <<< "$list" || :)
    done
    [ -z "$list" ] || fail "$suite: $package has $list, too"
    echo "$suite: $package has its files"
}

# Fedora compresses manuals with gzip, Debian 12's rpm in another way or not.
check_files ()
{
    local man='(\.gz|\.bz2)?'

    has 'nbdkit-qcow2-filter' /nbdkit/filters/nbdkit-qcow2-filter.so \
        "/man1/nbdkit-qcow2-filter.1$man" \
        "/man1/nbdkit-qcow2-migrating.1$man" \
        /system/nbdkit-qcow2@.service /system/nbdkit-qcow2@.socket \
        /sysusers.d/nbdkit-qcow2.conf /tmpfiles.d/nbdkit-qcow2.conf \
        /etc/nbdkit-qcow2 /bash_completion.d/nbdkit-qcow2-filter.bash
    has qcow2ctl /bin/nbd-apply-extents /bin/qcow2ctl \
        /completions/qcow2ctl "/man1/nbd-apply-extents.1$man" \
        "/man1/qcow2ctl.1$man"
}

# ---- In a root that has nothing else ---------------------------------------

# Debian 12's rpm wants to hear that it is meant.
rpm_in_root ()
{
    # shellcheck disable=SC2016     # The shell in the root expands these.
    in_root sh -c 'force=--force-debian
        rpm $force --version > /dev/null 2>&1 || force=
        exec rpm $force "$@"' sh "$@"
}

# The libraries are those of README's table.
furnish ()
{
    mkdir "$root/rpms"
    cp "$tmp/rpms"/* "$root/rpms/"
    quiet in_root apt-get update -q
    quiet in_root apt-get install -q -y --no-install-recommends \
        rpm nbdkit libnbd-bin libdeflate0 libjansson4 libzstd1 python3 systemd
    # shellcheck disable=SC2016     # The shell in the root expands it.
    in_root sh -c 'find /usr/lib /lib -name "*.so*" -type f |
        /usr/lib/rpm/elfdeps --provides
        echo "rtld(GNU_HASH)"
        for f in /bin/sh /usr/bin/bash /usr/bin/python3; do
            [ ! -e $f ] || echo $f
        done' | sort -u | sed 's/^/Provides: /' > "$tmp/provides"
    grep -q 'libzstd.so.1' "$tmp/provides" || fail "$suite: elfdeps"
    nbdkit=$(in_root nbdkit --version)
    nbdkit=${nbdkit#nbdkit }
    nbdkit=${nbdkit%% *}
}

# debian VERSION-RELEASE: makes the package "debian" with that nbdkit.
debian ()
{
    {
        cat <<END
Name: debian
Version: ${1%-*}
Release: ${1#*-}
Summary: What the packages of Debian here provide
License: none
Provides: nbdkit-server%{_isa} = %{version}-%{release}
END
        cat "$tmp/provides"
        printf '%%description\nNothing.\n%%files\n'
    } > "$root/rpms/debian.spec"
    quiet in_root rpmbuild -bb --define '_topdir /rpms/debian' \
        --define '_rpmdir /rpms' --define '_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.rpm' \
        --define "_isa $(in_root rpm --eval '%{?_isa}%{!?_isa:(x86-64)}')" \
        /rpms/debian.spec
}

# refused TEXT OPTION...: rpm does not do it, and says TEXT.
refused ()
{
    local text=$1

    shift
    if rpm_in_root "$@" > "$tmp/log" 2>&1; then
        fail "$suite: rpm $* works"
    fi
    grep -q "$text" "$tmp/log" ||
        { cat "$tmp/log"; fail "$suite: rpm $* does not say '$text'"; }
}

install ()
{
    local next=${nbdkit%.*}.$((${nbdkit##*.} + 1))
    local -a both=("$root"/rpms/nbdkit-*.rpm "$root"/rpms/qcow2ctl-*.rpm)

    both=("${both[@]#"$root"}")
    debian "$nbdkit-1"
    debian "$nbdkit-2"
    debian "$next-1"
    refused "nbdkit-server.* is needed by nbdkit-qcow2-filter" -i "${both[@]}"
    quiet rpm_in_root -i "/rpms/debian-$next-1.rpm"
    refused "nbdkit-server.* < $next~ is needed by nbdkit-qcow2" -i "${both[@]}"
    quiet rpm_in_root -U --oldpackage "/rpms/debian-$nbdkit-1.rpm"
    quiet rpm_in_root -i "${both[@]}"
    quiet rpm_in_root -V nbdkit-qcow2-filter qcow2ctl
    refused "nbdkit-server.* < $next~ is needed by (installed)" \
        -U "/rpms/debian-$next-1.rpm"
    quiet rpm_in_root -U "/rpms/debian-$nbdkit-2.rpm"
    echo "$suite: rpm installs it for nbdkit $nbdkit, and holds back $next"
}

# Fedora's nbdkit looks for filters where the package has this one.
use ()
{
    local so
    so=$(rpm_in_root -ql nbdkit-qcow2-filter | grep '/nbdkit-qcow2-filter.so$')
    in_root sh -c "[ -e /usr/lib/*/nbdkit/filters/nbdkit-qcow2-filter.so ] ||
        ln -s $so /usr/lib/*/nbdkit/filters/"
    cp "$top_srcdir/packaging/debian/tests/serve" "$root/rpms/"
    quiet in_root /rpms/serve
    # shellcheck disable=SC2016     # nbdkit's shell expands it.
    quiet in_root sh -c 'cd /tmp && nbdkit -r -U - --filter=qcow2 file \
        disk.qcow2 --run "nbdinfo --size \"\$uri\"" | grep -x 1048576'
    # What is only recommended is not here.
    in_root nbd-apply-extents --help > "$tmp/log" 2>&1 || :
    grep -q 'package python3-libnbd' "$tmp/log" ||
        fail "$suite: nbd-apply-extents does not say what it needs"
    # What systemd does when these files are installed.
    quiet in_root systemd-sysusers nbdkit-qcow2.conf
    quiet in_root systemd-tmpfiles --create nbdkit-qcow2.conf
    [ "$(in_root stat -c '%U %a' /var/lib/nbdkit-qcow2)" \
        = "nbdkit-qcow2 750" ] || fail "$suite: the folder of the units"
    quiet in_root systemd-analyze verify --man=no nbdkit-qcow2@disk.service \
        nbdkit-qcow2@disk.socket
    echo "$suite: used"
}

remove ()
{
    local left

    mv "$root/tmp/disk.qcow2" "$root/var/lib/nbdkit-qcow2/disk.qcow2"
    echo "IMAGE=/var/lib/nbdkit-qcow2/disk.qcow2" \
        > "$root/etc/nbdkit-qcow2/disk.conf"
    quiet rpm_in_root -e nbdkit-qcow2-filter qcow2ctl
    left=$(find "$root/etc" "$root/usr" ! -type l \( -name '*qcow2-filter*' \
               -o -name '*qcow2-migrating*' -o -name 'nbdkit-qcow2@*' \
               -o -name nbdkit-qcow2.conf -o -name '*qcow2ctl*' \
               -o -name 'nbd-apply-extents*' \) | grep -v '/etc/apt/' || :)
    [ -z "$left" ] || fail "$suite: left behind: $left"
    [ -s "$root/var/lib/nbdkit-qcow2/disk.qcow2" ] ||
        fail "$suite: an image is gone"
    [ -s "$root/etc/nbdkit-qcow2/disk.conf" ] ||
        fail "$suite: settings that the user made are gone"
    quiet in_root nbdkit null --run true
    ! in_root nbdkit --filter=qcow2 null --run true 2>/dev/null ||
        fail "$suite: the filter is still there"
    echo "$suite: removed"
}

try ()
{
    new_root "$1" "rpm-$1" --minimal || return $?
    build
    lint
    check_files
    clean_root "rpm-$1"
    new_root "$1" "use-$1" --minimal || return $?
    furnish
    install
    use
    remove
    clean_root "use-$1"
}

each_suite try
