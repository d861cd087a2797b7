# SPDX-License-Identifier: BSD-3-Clause
# matrix.sh - assigns the images of the matrix (tests/lib/matrix.py) to tests,
# so that the tests can run in parallel; sourced by each.
# shellcheck shell=bash
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

# Patterns of names; the group "other" has all images that match no pattern.
declare -A matrix_groups=(
    [clusters]='cs-* v2-cs-*'
    [refcounts]='rb-*'
    [zlib]='zlib-*'
    [zstd]='zstd-*'
    [v1]='v1-*'
    [extl2]='extl2-*'
    [prealloc]='prealloc-*'
    [sizes]='odd-* size-* v2-size-* l1-larger'
    [huge]='huge-*'
    [eof]='eof-*'
)

# Reads names of images, prints those that match a pattern.
select_names ()
{
    local name pattern

    set -f
    while read -r name; do
        for pattern; do
            # shellcheck disable=SC2053     # It is a pattern.
            [[ $name == $pattern ]] && echo "$name" && break
        done
    done
    set +f
}

# names_of GROUP
names_of ()
{
    local -a patterns=()

    set -f
    if [ "$1" = other ]; then
        # shellcheck disable=SC2206         # Split into patterns.
        patterns=(${matrix_groups[@]})
        set +f
        grep -v -x -F -f <(select_names "${patterns[@]}" <"$tmp/all") \
            "$tmp/all"
    else
        # shellcheck disable=SC2206
        patterns=(${matrix_groups[$1]})
        set +f
        select_names "${patterns[@]}" <"$tmp/all"
    fi
}

# check_matrix GROUP
check_matrix ()
{
    local -a names

    requires_qemu
    requires_libnbd
    requires_plugin file
    "$PYTHON" "$lib/matrix.py" list >"$tmp/all"
    mapfile -t names < <(names_of "$1")
    [ ${#names[@]} -gt 0 ] || broken "no images in group $1"
    "$PYTHON" "$lib/matrix.py" make "${names[@]}" "$tmp/images"
    start_nbdkit -r --filter="$filter" file dir="$tmp/images"
    # shellcheck disable=SC2154     # Set by start_nbdkit.
    "$PYTHON" "$nbddir/matrix_check.py" "$sock" "$tmp/images" "${names[@]}"
}
