#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The filter builds without a warning, and its end-to-end tests pass, with
# the nbdkit of later Debian suites: the oldest one that is supported is that
# of the machine where "make check" runs.  An nbdkit filter works only with
# the exact version it was built for, so each suite gets a root directory of
# its own with its compiler, nbdkit, libnbd and QEMU.
#
# Roots are kept in QCOW2_COMPAT_ROOTS (default /var/tmp/q2-roots), about
# 650 MB for each; remove them to have newer ones made.  Suites are chosen
# with QCOW2_COMPAT_SUITES, tests with QCOW2_COMPAT_TESTS.
#
# Skipped where it cannot be tried: not root, no network, not a git checkout.
# If one suite is skipped and another one passes, that is a pass which says
# so; a failure of any is a failure.

set -u

here=$(dirname "$(realpath "$0")")
top=$(realpath "$here/../..")
roots=${QCOW2_COMPAT_ROOTS:-/var/tmp/q2-roots}
read -r -a suites <<< "${QCOW2_COMPAT_SUITES:-trixie sid}"
read -r -a tests <<< "${QCOW2_COMPAT_TESTS:-}"

skip ()
{
    echo "SKIP: $*"
    exit 77
}

[ "$(id -u)" -eq 0 ] || skip "needs root, to make and enter other Debian roots"
command -v apt-get >/dev/null || skip "needs a Debian machine with apt"
git -C "$top" rev-parse --is-inside-work-tree >/dev/null 2>&1 ||
    skip "not a git checkout, and only files that git knows are tested"

passed=0
failed=0
for suite in "${suites[@]}"; do
    "$top/scripts/make-root" "$suite" "$roots/$suite"
    status=$?
    if [ "$status" -eq 0 ]; then
        "$here/run-in-root" "$roots/$suite" ${tests[@]+"${tests[@]}"}
        status=$?
    elif [ "$status" -eq 3 ]; then
        status=77
        echo "compat-$suite: SKIP: its packages cannot be fetched"
    fi
    case $status in
        0) passed=$((passed + 1)) ;;
        77) ;;
        *) failed=$((failed + 1)); echo "compat-$suite: FAIL ($status)" ;;
    esac
done

echo "compat: $passed of ${#suites[@]} suites passed, $failed failed"
[ "$failed" -eq 0 ] || exit 1
[ "$passed" -gt 0 ] || skip "no suite could be tried"
