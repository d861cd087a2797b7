#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The examples of the README, of the guides and of the man pages have the output
# that they show, and what reporters of bugs are asked to run does run; examples.py says how they are marked.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires nbdkit nbdcopy nbdinfo qemu-img qemu-io xz

so=$top_builddir/filter/.libs/nbdkit-qcow2-filter.so
[ -f "$so" ] || skip "needs nbdkit to have built the filter for"

check_examples ()
{
    "${PYTHON:-/usr/bin/python3}" "$top_srcdir/tests/style/examples.py" \
        "$so" "$@"
}

clean check_examples "$top_srcdir/README.md" "$top_srcdir/docs/REMOTE.md" \
      "$top_srcdir/docs/LAYERS.md" "$top_srcdir/docs/PIPELINES.md" \
      "$top_srcdir/docs/nbdkit-qcow2-filter.pod"
if "$top_builddir/tools/qcow2ctl/qcow2ctl" --version | grep -q json=yes; then
    requires jq
    clean check_examples "$top_srcdir/docs/qcow2ctl.pod" \
          "$top_srcdir/docs/BACKUP.md" \
          "$top_srcdir/.github/ISSUE_TEMPLATE/bug_report.md"
fi

sed 's/hole,zero/hole/' "$top_srcdir/README.md" > "$tmp/bad.md"
planted "another output" "FAIL" check_examples "$tmp/bad.md"
sed 's/--filter=qcow2/--filter=qcow3/' \
    "$top_srcdir/docs/nbdkit-qcow2-filter.pod" > "$tmp/bad.pod"
planted "a command that fails" "FAIL" check_examples "$tmp/bad.pod"
