#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The man pages are well-formed, and the filter's has the sections of nbdkit's
# own filters, in their order.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires podchecker pod2man

sections='NAME
SYNOPSIS
DESCRIPTION
EXPORTS
WRITING
OTHER FILES
CONTROL
EXAMPLES
PARAMETERS
DEBUG FLAGS
MESSAGES
LIMITATIONS
SECURITY
FILES
VERSION
SEE ALSO
AUTHORS
COPYRIGHT'

check_pod ()
{
    podchecker -warnings "$1" > "$tmp/out" 2>&1 ||
        { cat "$tmp/out"; return 1; }
    if grep -E 'WARNING|ERROR' "$tmp/out"; then return 1; fi
    pod2man --errors=die "$1" > "$tmp/page.1"
}

check_man ()
{
    check_pod "$1" || return 1
    diff -u <(echo "$sections") <(sed -n 's/^=head1 //p' "$1" | tr -d '"')
}

page=$top_srcdir/docs/nbdkit-qcow2-filter.pod
clean check_man "$page"
clean check_pod "$top_srcdir/docs/nbd-apply-extents.pod"
clean check_pod "$top_srcdir/docs/nbdkit-qcow2-migrating.pod"
clean check_pod "$top_srcdir/docs/qcow2ctl.pod"

sed 's/^=over 4$//' "$page" > "$tmp/bad.pod"
planted "an item outside a list" "=over" check_man "$tmp/bad.pod"
sed 's/^=head1 FILES/=head1 FOLDERS/' "$page" > "$tmp/bad.pod"
planted "a section that is not there" "-FILES" check_man "$tmp/bad.pod"
