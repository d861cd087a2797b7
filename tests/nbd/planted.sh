# SPDX-License-Identifier: BSD-3-Clause
# planted.sh - filters with a bug that a test has planted; sourced.
# shellcheck shell=bash
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

# change_object DIR FILE SED-SCRIPT: compile a changed file of core/ and
# replace the one in DIR/core.a.
change_object ()
{
    local dir=$1 file=$2 object

    object=libqcow2core_la-$(basename "$file" .c).o
    sed "$3" "$top_srcdir/core/$file" >"$dir/mutant.c"
    ! cmp -s "$top_srcdir/core/$file" "$dir/mutant.c" ||
        broken "nothing to be changed in $file: $3"
    gcc -O1 -g -fPIC -fvisibility=hidden -I"$top_builddir" \
        -I"$top_srcdir/core" -c "$dir/mutant.c" -o "$dir/$object" ||
        broken "cannot be built: $file: $3"
    # Members with equal names have prefixes; these have none.
    ar t "$dir/core.a" | grep -x -F "$object" >/dev/null ||
        broken "core has no $object"
    ar r "$dir/core.a" "$dir/$object"
}

# build_planted DIR FILE SED-SCRIPT [FILE SED-SCRIPT]...: make a filter in DIR
# in which these files of core/ are changed.
build_planted ()
{
    local dir=$1

    shift
    rm -rf "$dir"
    mkdir "$dir"
    cp "$top_builddir/core/.libs/libqcow2core.a" "$dir/core.a"
    while [ $# -ge 2 ]; do
        change_object "$dir" "$1" "$2"
        shift 2
    done
    # shellcheck disable=SC2046     # Split on purpose.
    gcc -shared -o "$dir/nbdkit-qcow2-filter.so" \
        "$top_builddir"/filter/{,*/}.libs/*.o \
        -Wl,--version-script="$top_srcdir/filter/filter.syms" \
        "$top_builddir/host/.libs/libqcow2host.a" "$dir/core.a" \
        $(sed -n "s/^dependency_libs='\(.*\)'/\1/p" \
            "$top_builddir/core/libqcow2core.la") \
        $(pkg-config --libs libnbd 2>/dev/null) \
        $(pkg-config --libs jansson 2>/dev/null) -lpthread ||
        broken "cannot be linked"
}
