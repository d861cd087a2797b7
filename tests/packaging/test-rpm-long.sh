#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# In a pristine root: scripts/package makes RPM packages from the spec file, of
# which rpmlint has nothing to say; the source package has the archive; the
# packages have the files that the spec file lists, and a filter that serves.
#
# The root is of Debian, where rpmbuild takes Fedora's spec file, but neither
# Fedora's macros nor its libraries.  Suites are chosen with
# QCOW2_COMPAT_SUITES; see roots.sh.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"
read -r -a suites <<< "${QCOW2_COMPAT_SUITES:-trixie}"

build ()
{
    quiet copy_source "$root/build/src"
    quiet in_root apt-get update -q
    quiet in_root /build/src/scripts/package rpm --output /build/out
    quiet in_root apt-get install -q -y --no-install-recommends rpmlint cpio
    echo "$suite: built: $(cd "$root/build/out" && echo *.rpm)"
}

check_spec ()
{
    quiet in_root sh -c 'cd /build/src/packaging/rpm && rpmlint \
        -c rpmlint.toml nbdkit-qcow2-filter.spec'
    grep -q '0 errors, 0 warnings' "$tmp/log" ||
        { cat "$tmp/log"; fail "$suite: rpmlint"; }
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

check_files ()
{
    has 'nbdkit-qcow2-filter' /nbdkit/filters/nbdkit-qcow2-filter.so \
        /man1/nbdkit-qcow2-filter.1.gz /man1/nbdkit-qcow2-migrating.1.gz \
        /system/nbdkit-qcow2@.service /system/nbdkit-qcow2@.socket \
        /sysusers.d/nbdkit-qcow2.conf /tmpfiles.d/nbdkit-qcow2.conf \
        /etc/nbdkit-qcow2 /bash_completion.d/nbdkit-qcow2-filter.bash
    has qcow2ctl /bin/nbd-apply-extents /bin/qcow2ctl \
        /completions/qcow2ctl /man1/nbd-apply-extents.1.gz \
        /man1/qcow2ctl.1.gz
}

# What is in the packages works with the nbdkit of the root.
use ()
{
    # shellcheck disable=SC2016     # The shell in the root expands these.
    quiet in_root sh -e -c '
        mkdir /try
        cd /try
        for f in /build/out/*.rpm; do
            case $f in *.src.rpm) continue ;; esac
            rpm2cpio "$f" | cpio -idm --quiet
        done
        usr/bin/qcow2ctl create disk.qcow2 100M
        nbdkit -U - --filter="$(find /try -name nbdkit-qcow2-filter.so)" \
            file disk.qcow2 --run true
        usr/bin/qcow2ctl check disk.qcow2'
    echo "$suite: used"
}

try ()
{
    new_root "$1" "rpm-$1" --minimal || return $?
    build
    check_spec
    check_files
    use
    clean_root "rpm-$1"
}

each_suite try
