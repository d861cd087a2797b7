# SPDX-License-Identifier: BSD-3-Clause
# header_faults.sh - programs whose writes fail at the header of an image,
# behind that, or at the n-th; sourced by tests, after functions.sh.
# shellcheck shell=bash

skip_if_instrumented "what is preloaded would be in the way"
# shellcheck disable=SC2086      # It may have arguments.
${CC:-cc} -O1 -shared -fPIC -o "$tmp/header_faults.so" \
    "$(dirname "${BASH_SOURCE[0]}")/header_faults.c" >"$tmp/cc.log" 2>&1 ||
    skip "the library to preload cannot be built here: $(cat "$tmp/cc.log")"

# with_faults PROGRAM NAME: a script that runs it so that 'faults' works.
with_faults ()
{
    cat >"$tmp/$2" <<SCRIPT
#!/bin/bash
exec env LD_PRELOAD='$tmp/header_faults.so' HEADER_FAULTS='$tmp/faults' \
    '$1' "\$@"
SCRIPT
    chmod +x "$tmp/$2"
}

# faults [NAME MODE [N]]: from now on, as header_faults.c says; or none.
faults ()
{
    rm -f "$tmp/faults"
    [ $# -eq 0 ] || echo "$@" >"$tmp/faults"
}
