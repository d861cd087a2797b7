#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Calls between files: no two files of core/, host/, filter/ or tools/ call each
# other, directly or indirectly.  The calls are read from the objects of the
# build, so a shared header cannot hide one.
#
# Known loops are listed below.  The list may only get shorter: a loop that is
# gone must be removed from it.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires awk nm tsort sed
requires_build

known_loops='
'

# The objects of a tree, one line each: the file's name without its ending,
# and the object.  Not those with planted bugs.
objects ()
{
    (cd "$1" &&
         find core host filter -path '*/.libs/*.o' ! -name '*planted*'
         find tools -name '*.o') | sort |
        sed -e 's|^\(.*\)/\.libs/\([^/]*_la-\)*\([^/]*\)\.o$|\1/\3 &|' \
            -e 's|^\(tools/[^/]*\)/[^/]*-\([^/]*\)\.o$|\1/\2 &|'
}

# "A B" for each file A that uses a symbol that B defines.
edges ()
{
    objects "$1" > "$tmp/objects"
    (cd "$1" && sed 's/.* //' "$tmp/objects" | xargs nm -A -P) | awk '
        NR == FNR { name[$2 ":"] = $1; next }
        { $1 = name[$1] }
        $3 ~ /^[TDBRVW]$/ { defined[$2] = $1 }
        $3 == "U" { n++; user[n] = $1; used[n] = $2 }
        END {
            for (i = 1; i <= n; i++)
                if (used[i] in defined && defined[used[i]] != user[i])
                    print user[i], defined[used[i]]
        }' "$tmp/objects" - | sort -u
}

# The files on loops, one loop per line.
loops ()
{
    edges "$1" | awk '
        { to[$1] = to[$1] " " $2; node[$1]; node[$2] }
        # The files that one file can reach.
        function reach(from,   todo, n, list, i, m) {
            split ("", seen)
            n = 1; todo[1] = from
            while (n > 0) {
                m = split (to[todo[n--]], list, " ")
                for (i = 1; i <= m; i++)
                    if (!(list[i] in seen)) {
                        seen[list[i]]
                        todo[++n] = list[i]
                    }
            }
        }
        END {
            for (a in node) {
                reach(a)
                for (b in seen) reaches[a, b]
            }
            for (a in node) {
                if (!((a, a) in reaches)) continue
                for (b in node)
                    if ((a, b) in reaches && (b, a) in reaches) print a, b
            }
        }' | sort | awk '
        $1 != last { if (line != "") print line; line = ""; last = $1 }
        { line = line (line == "" ? "" : " ") $2 }
        END { if (line != "") print line }' | sort -u
}

check_loops ()
{
    local found status=0

    found=$(loops "$1")
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        grep -qxF -- "$line" <<< "$known_loops" || {
            echo "these files call each other: $line"
            status=1
        }
    done <<< "$found"
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        grep -qxF -- "$line" <<< "$found" || {
            echo "no loop any more, take it off the list: $line"
            status=1
        }
    done <<< "$known_loops"
    return $status
}

# plant_call FILE FUNCTION LOOP: a call upwards in a copy of the objects, from
# a file to one that uses it.
plant_call ()
{
    local file=$1 function=$2 loop=$3 object

    object=$(objects "$top_builddir" | sed -n "s|^$file ||p")
    [ -n "$object" ] || fail "there is no object of $file"
    rm -rf "$tmp/tree"
    mkdir "$tmp/tree"
    (cd "$top_builddir" && objects . | sed 's/.* //' |
         xargs cp --parents -t "$tmp/tree")
    { cat "$top_srcdir/$file.c"
      echo "extern int $function (void);"
      echo 'int planted_call (void); int planted_call (void)'
      echo "{ return $function (); }"; } > "$tmp/planted.c"
    gcc -I"$top_builddir" -I"$top_srcdir" -I"$top_srcdir/core" \
        -I"$top_srcdir/filter" -I"$top_srcdir/tools/qcow2ctl" -c "$tmp/planted.c" -o "$tmp/tree/$object"
    planted "a call from $file.c to $function" "$loop" \
        check_loops "$tmp/tree"
}

clean check_loops "$top_builddir"
plant_call core/base/ranges q2_io_flush 'core/base/ranges core/io/host_write'
plant_call host/error lock_file 'host/error host/locks'
plant_call tools/qcow2ctl/output options_parse \
           'tools/qcow2ctl/options tools/qcow2ctl/output'
known_loops+='core/base/be core/base/bits
'
planted "a loop that is gone" 'take it off the list' \
    check_loops "$top_builddir"
