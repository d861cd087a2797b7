# SPDX-License-Identifier: BSD-3-Clause
# drill.sh - disks that are in use, their backups, and a server that is killed;
# sourced by tests.
# shellcheck shell=bash

# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/control.sh"
skip_if_instrumented "the server is killed"

# drill PROGRAM ARGUMENT...: on a file system in memory, if there is one: the
# server is killed, not the machine, so nothing depends on the disk.
drill ()
{
    local program=$1 folder=$tmp
    local -a more=()

    shift
    if [ -w /dev/shm ] && [ "$(stat -f -c %T /dev/shm)" = tmpfs ]; then
        folder=$(mktemp -d "/dev/shm/qcow2-$testname.XXXXXX")
        cleanup_fn rm -rf "$folder"
    fi
    if run_nbdkit --dump-plugin --filter="$filter" null 2>/dev/null |
            grep -q '^qcow2_luks=no'; then
        echo "built without nettle: no encrypted disks"
    else
        more=(--luks)
    fi
    [ -z "${SEED:-}" ] || more+=(--seed "$SEED")
    set_nbdkit_command
    "$PYTHON" "$nbddir/$program" --folder "$folder" "$@" "${more[@]}" \
        --qcow2ctl "$top_builddir/tools/qcow2ctl/qcow2ctl" \
        --apply "$top_srcdir/tools/nbd-apply-extents" \
        -- "${nbdkit_command[@]}" -f --filter="$filter" || fail "see above"
}
