# SPDX-License-Identifier: BSD-3-Clause
# filters.sh - nbdkit's other filters around ours; sourced.
# shellcheck shell=bash
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

# every_filter above|below: see filters_matrix.py.  EVERY=1 for all filters, by
# default some of them.
every_filter ()
{
    local -a nbdkit_command

    requires_program qemu-img
    check_filter
    set_nbdkit_command
    "$PYTHON" "$nbddir/filters_matrix.py" "$1" "$filter" "$tmp" \
        "${EVERY:-6}" "${nbdkit_command[@]}"
}

# filters_table COMMAND...: see filters_table.py.
filters_table ()
{
    "$PYTHON" "$nbddir/filters_table.py" "$@"
}

# what_fails: it does, as docs/FILTERS.md says.
what_fails ()
{
    local -a nbdkit_command

    check_filter
    set_nbdkit_command
    filters_table traps "$filter" "$tmp" "${nbdkit_command[@]}"
}
