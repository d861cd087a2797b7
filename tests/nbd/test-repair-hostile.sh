#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Hostile images, scanned as if they had not been closed cleanly: with any
# tables, the scan ends soon, in little memory, with a result or with a line
# that names the error.  There is no server, only the engine.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
program=$top_builddir/tests/unit/repair-file
mkdir "$tmp/images"
"$PYTHON" "$lib/hostile.py" make all "$tmp/images"

# A sanitizer reserves terabytes of addresses.
limit_memory ()
{
    [ "$SANITIZER" != no ] || ulimit -v 300000
}

scanned=0 refused=0
for image in "$tmp"/images/*.qcow2; do
    status=0
    (limit_memory; exec timeout "$patience" "$program" -n "$image") \
        >"$tmp/out" 2>"$tmp/err" || status=$?
    case $status in
        0) scanned=$((scanned + 1)) ;;
        1) refused=$((refused + 1))
           [ "$(wc -l <"$tmp/err")" -eq 1 ] ||
               fail "$image: more than one line: $(cat "$tmp/err")"
           if grep -q 'out of memory' "$tmp/err"; then
               fail "$image: $(cat "$tmp/err")"
           fi ;;
        *) fail "$image: exit $status: $(cat "$tmp/err")" ;;
    esac
done
echo "$scanned scanned, $refused refused"
# If all failed in the same way, nothing would be tested.
[ "$scanned" -ge 50 ] && [ "$refused" -ge 50 ]
