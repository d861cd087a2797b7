# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# roots.sh - sourced by long tests that work in roots of other Debian releases.
#
# Roots are made by scripts/make-root, and kept in QCOW2_COMPAT_ROOTS as for
# tests/compat.  They are never changed: a test works in an overlay over one,
# which is thrown away.

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires unshare apt-get
[ "$(id -u)" -eq 0 ] || skip "needs root, to make and enter other Debian roots"

# All mounts end with the test.
if [ -z "${QCOW2_OWN_MOUNTS-}" ]; then
    unshare --mount true || skip "namespaces are not permitted here"
    rm -rf "$tmp"
    QCOW2_OWN_MOUNTS=1 exec unshare --mount --propagation private \
        "$script" "$@"
fi

# A gigabyte gets into it, so it is not in memory.
rm -rf "$tmp"
tmp=$(mktemp -d --tmpdir=/var/tmp qcow2-packaging.XXXXXX)
leave ()
{
    local m

    for m in "$tmp"/*; do
        if mountpoint -q "$m"; then umount -R "$m" || :; fi
    done
    rm -rf --one-file-system "$tmp"
}
trap leave EXIT
roots=${QCOW2_COMPAT_ROOTS:-/var/tmp/q2-roots}
read -r -a suites <<< "${QCOW2_COMPAT_SUITES:-bookworm trixie sid}"

# clean_root NAME: unmounts and removes it.
clean_root ()
{
    if mountpoint -q "$tmp/$1"; then umount -R "$tmp/$1"; fi
    rm -rf --one-file-system "${tmp:?}/$1" "$tmp/$1.upper" "$tmp/$1.work"
}

# new_root SUITE NAME [--minimal]: sets 'root', a root of its own.  Status 3: it
# cannot be fetched.
new_root ()
{
    local from=$roots/$1${3:+-minimal}

    "$top_srcdir/scripts/make-root" ${3:+"$3"} "$1" "$from" || return $?
    root=$tmp/$2
    clean_root "$2"
    mkdir "$root" "$root.upper" "$root.work"
    mount -t overlay overlay -o "lowerdir=$(realpath "$from"),upperdir=$root.upper,workdir=$root.work" \
          "$root" 2>/dev/null || {
        cp -a --reflink=auto "$(realpath "$from")/." "$root/"
        # Programs such as rpm want / to be a mount.
        mount --bind "$root" "$root"
    }
    rm -f "$root/etc/resolv.conf"
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    # This machine's settings for fetching, as make-root used them.
    apt-config dump | grep -E '^Acquire::(https?|Retries|Check-|ForceIPv)' \
        > "$root/etc/apt/apt.conf.d/99host" || :
}

# Runs a command in 'root', as in tests/compat/run-in-root.
in_root ()
{
    # shellcheck disable=SC2016     # The inner shell expands these.
    unshare --mount --pid --fork --kill-child -- bash -e -c '
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/run"
        status=0
        chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            AUTOPKGTEST_TMP=/tmp "$@" || status=$?
        exit "$status"
    ' bash "$root" "$@" < /dev/null
}

# Runs it; its output is shown only if it fails.
quiet ()
{
    "$@" > "$tmp/log" 2>&1 || {
        tail -n 60 "$tmp/log"
        fail "$suite: $*"
    }
}

# each_suite FUNCTION: calls it with each suite.  If one is skipped and another
# one passes, that is a pass which says so.
each_suite ()
{
    local status passed=0

    for suite in "${suites[@]}"; do
        # Not "|| status=$?", in which errors would not end it.
        set +e
        ( set -e; "$1" "$suite" )
        status=$?
        set -e
        case $status in
        0) passed=$((passed + 1)); echo "ok: $suite" ;;
        3) echo "$suite: SKIP: its packages cannot be fetched" ;;
        *) fail "$suite" ;;
        esac
    done
    [ "$passed" -gt 0 ] || skip "no suite could be tried: cannot be fetched"
}
