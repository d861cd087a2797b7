# SPDX-License-Identifier: BSD-3-Clause
# requests.sh - counts the filter's requests to the plugin: the log filter
# below ours writes a line for each; sourced.
# shellcheck shell=bash
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

requires_filter log

# start_logged FILE [ARGUMENT...]: serve an image file, logging.
start_logged ()
{
    seen=0
    rm -f "$tmp/requests"
    # No reading ahead, even if a busy machine looks like a slow host.
    start_nbdkit -r --filter="$filter" --filter=log file "$@" qcow2-readahead=0 \
        logfile="$tmp/requests"
}

# Forget the log so far.
forget ()
{
    seen=$(wc -l <"$tmp/requests")
}

# The log since then.
logged ()
{
    tail -n +$((seen + 1)) "$tmp/requests"
}

# requests KIND: the number of requests of a kind (Read, Extents, Cache).
requests ()
{
    logged | grep -c " $1 id=" || true
}

# expect NUMBER KIND WHAT: exactly this many.
expect ()
{
    [ "$(requests "$2")" -eq "$1" ] || {
        logged | head -n 40 >&2
        fail "$3: $(requests "$2") x $2, expected $1"
    }
}

# at_most NUMBER KIND WHAT
at_most ()
{
    [ "$(requests "$2")" -le "$1" ] ||
        fail "$3: $(requests "$2") x $2, expected at most $1"
}

# make_noise FILE SIZE: without zeros, incompressible.
make_noise ()
{
    "$PYTHON" -c '
import random
import sys
open(sys.argv[1], "wb").write(random.Random(7).randbytes(int(sys.argv[2])))
' "$@"
}

# read_range OFFSET LENGTH: read it and check the bytes.
read_range ()
{
    nbdtool read "$uri" "$1" "$2" | cmp - \
        <(tail -c +$(($1 + 1)) "$tmp/disk.raw" | head -c "$2") ||
        fail "wrong data at $1"
}
