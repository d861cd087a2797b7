# SPDX-License-Identifier: BSD-3-Clause
# control.sh - the control socket; sourced by tests.
# shellcheck shell=bash

# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"
requires_qemu
requires_libnbd
requires_plugin file

control=$tmp/ctl

# The parameter is refused if the filter was built without jansson.
touch "$tmp/tiny"
run_nbdkit -U - --filter="$filter" null qcow2-check-at-start=off \
    qcow2-control="$control" --run true >"$tmp/tiny" 2>&1 || true
if grep -q 'built without the library' "$tmp/tiny"; then
    skip "the filter was built without jansson"
fi

# qmp COMMAND[,NAME=VALUE...]...: the replies go to $tmp/said.
qmp ()
{
    "$PYTHON" "$nbddir/qmp_client.py" "$control" "$@" >"$tmp/said"
}

# has REGEX WHAT: that was said.
has ()
{
    grep -q -e "$1" "$tmp/said" || fail "$2: $(cat "$tmp/said")"
}

# dead_socket PATH: one that nobody listens on.
dead_socket ()
{
    "$PYTHON" -c 'if True:
        import socket, sys
        socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$1"
}

# refused_late REGEX ARGUMENT...: as 'refused', when nbdkit listens already,
# and leaves its socket behind.
refused_late ()
{
    rm -f "$tmp/refused.sock"
    refused "$@"
}
