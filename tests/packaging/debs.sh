# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# debs.sh - sourced by long tests that install the packages of Debian: builds
# them in one root, and installs them in another one that has nothing else.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"

# In 'root', for its nbdkit; the packages get into $tmp/debs, and stay in
# /build/out of the root.
build_debs ()
{
    quiet copy_source "$root/build/src"
    quiet in_root apt-get update -q
    quiet in_root /build/src/scripts/package deb --output /build/out
    rm -rf "$tmp/debs"
    mkdir "$tmp/debs"
    cp "$root"/build/out/{nbdkit-qcow2-filter,qcow2ctl}_*.deb "$tmp/debs/"
    echo "$suite: built: $(cd "$tmp/debs" && echo *)"
}

# install_debs PACKAGE...: in 'root', with these of Debian, and what all of them
# depend on.
install_debs ()
{
    mkdir "$root/debs"
    cp "$tmp/debs"/* "$root/debs/"
    # Where a package starts a service it would be started here.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    quiet in_root apt-get update -q
    # shellcheck disable=SC2016     # The shell in the root expands it.
    quiet in_root sh -c 'apt-get install -q -y --no-install-recommends \
        /debs/*.deb "$@"' sh "$@"
}
