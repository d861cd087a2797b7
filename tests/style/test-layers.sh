#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Includes.
#
# * core/: a file includes headers of its own folder and of folders before it
#   in the list below, never of a later one or of another one on the same line;
#   and nothing of nbdkit.
# * host/: its own headers, and of core/ only qcow2.h; nothing of nbdkit.
# * filter/: host/, of core/ only qcow2.h, and of its own headers those that are
#   not later in the list below, where below, share and control are folders.  Only
#   nbdkit_api.h includes the header of nbdkit.
# * tools/: of core/ only qcow2.h, of host/ all, and its own headers.
# * No header includes itself, directly or through others.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires awk

# The files of a tree, "core/a/b.c".
files_of ()
{
    (cd "$1" && { find core host filter tools -name '*.[ch]' 2>/dev/null || :; } |
         sort)
}

# Prints the violations in a tree; fails if there are any.  No space before the
# parenthesis of a call: awk requires this for functions of the program, though
# some accept it.
# shellcheck disable=SC2016         # awk's variables, not ours.
check_order ()
{
    (cd "$1" && files_of . | xargs awk '
    function ranks(list, to,   n, m, i, j, l, names) {
        n = split (list, l)
        for (i = 1; i <= n; ++i) {
            m = split (l[i], names, ",")
            for (j = 1; j <= m; ++j) to[names[j]] = i
        }
    }
    BEGIN {
        ranks("base format codec io meta map,alloc,check data read track write image view edit", rank)
        ranks("cmdline,exports lines nbdkit_api settings,stack,report,logs,keys below places options,create,rawnames embed share control parameters,check,handle raw answers,list,requests filter", frank)
    }
    function bad(why)
    {
        printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why
        found = 1
    }
    # The folder of a file of filter/, or its name.
    function place(path)
    {
        sub (/^filter\//, "", path)
        sub (/\/.*/, "", path)
        sub (/\.[ch]$/, "", path)
        return path
    }
    function in_core()
    {
        if (name ~ /nbdkit/) bad("core/ knows nothing of nbdkit")
        else if (system_header || name == "config.h" || name == "qcow2.h")
            return
        else if (where[2] == "qcow2.h") bad("the public header stands alone")
        else if (nr_parts != 2 || !(part[1] in rank))
            bad("not FOLDER/FILE.h with a folder of the list")
        else if (!(where[2] in rank)) bad("the folder is not in the list")
        else if (rank[part[1]] > rank[where[2]]) bad("a layer below its own")
        else if (rank[part[1]] == rank[where[2]] && part[1] != where[2])
            bad("siblings do not include each other")
    }
    function in_host()
    {
        if (name ~ /nbdkit/) bad("host/ knows nothing of nbdkit")
        else if (system_header || name == "config.h" || name == "qcow2.h")
            return
        else if (nr_parts != 2 || part[1] != "host")
            bad("host/ includes only qcow2.h and host/FILE.h")
    }
    function in_filter(   own, other)
    {
        own = place(FILENAME)
        if (name ~ /^nbdkit-/) {
            if (FILENAME != "filter/nbdkit_api.h")
                bad("only nbdkit_api.h includes it")
            return
        }
        if (system_header || name == "config.h" || name == "qcow2.h" ||
            part[1] == "host")
            return
        other = place(name)
        if (nr_parts > 1 && part[1] != "below" && part[1] != "share" &&
            part[1] != "control")
            bad("only qcow2.h of core/ is public")
        else if (!(own in frank)) bad("the file is not in the list")
        else if (!(other in frank)) bad("that file is not in the list")
        else if (frank[other] > frank[own] && !is_logging(own, other))
            bad("a file after its own")
    }
    # lines.c undoes what nbdkit_api.h does with the help of lines.h.
    function is_logging(own, other)
    {
        return FILENAME == "filter/lines.c" && other == "nbdkit_api"
    }
    function in_tools()
    {
        if (name ~ /nbdkit/) bad("tools/ knows nothing of nbdkit")
        else if (!system_header && nr_parts > 1 && part[1] != "host")
            bad("only qcow2.h of core/ is public")
    }
    /^[ \t]*#[ \t]*include/ {
        name = $0
        sub (/^[ \t]*#[ \t]*include[ \t]*/, "", name)
        system_header = name ~ /^</
        gsub (/[<">]|[ \t].*/, "", name)
        nr_parts = split (name, part, "/")
        split (FILENAME, where, "/")

        if (name ~ /(^|\/)\.\.?\//) bad("no relative paths")
        else if (where[1] == "core") in_core()
        else if (where[1] == "host") in_host()
        else if (where[1] == "filter") in_filter()
        else in_tools()
    }
    END { exit found }')
}

# "A B" for each header A that includes a header B of the same four trees.
# shellcheck disable=SC2016         # awk's variables, not ours.
include_edges ()
{
    (cd "$1" && files_of . | grep '\.h$' | xargs awk '
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        name = $0
        sub (/^[^"]*"/, "", name)
        sub (/".*/, "", name)
        if (name !~ /^host\// && name != "qcow2.h") {
            root = FILENAME
            if (root ~ /^tools\//) sub (/\/[^\/]*$/, "", root)
            else sub (/\/.*/, "", root)
            name = root "/" name
        }
        print FILENAME, name
    }')
}

check_include_loops ()
{
    include_edges "$1" > "$tmp/edges"
    tsort "$tmp/edges" > /dev/null 2> "$tmp/loops" || :
    awk '$1 == $2 { print $1 }' "$tmp/edges" >> "$tmp/loops"
    [ ! -s "$tmp/loops" ] || {
        echo "these headers include each other:"
        cat "$tmp/loops"
        return 1
    }
}

check_layers ()
{
    check_order "$1" && check_include_loops "$1"
}

# Plants one line in the copy; the check must complain about that file.
plant ()
{
    local file=$1 line=$2 why=$3

    mkdir -p "$tmp/tree/$(dirname "$file")"
    echo "$line" >> "$tmp/tree/$file"
    planted "$line in $file" "$why" check_layers "$tmp/tree"
    rm "$tmp/tree/$file"
    if [ -e "$top_srcdir/$file" ]; then
        cp "$top_srcdir/$file" "$tmp/tree/$file"
    fi
}

requires tsort
clean check_layers "$top_srcdir"
copy_source "$tmp/tree"
plant core/format/l2e.c '#include "io/io.h"' 'a layer below its own'
plant core/base/bits.h '  #  include "format/l2e.h"' 'a layer below its own'
plant core/map/map.c '#include "alloc/alloc.h"' 'siblings'
plant core/alloc/alloc.c '#include "map/map.h"' 'siblings'
plant core/io/io.c '#include <nbdkit-filter.h>' 'nothing of nbdkit'
plant core/io/io.c '#include "../meta/cache.h"' 'no relative paths'
plant core/io/io.c '#include "cache.h"' 'not FOLDER/FILE.h'
plant core/io/io.c '#include "host/locks.h"' 'not FOLDER/FILE.h'
plant core/extra/new.c '#include "base/be.h"' 'the folder is not in the list'
plant core/qcow2.h '#include "base/be.h"' 'stands alone'
plant core/base/turns.h '#include "base/turns.h"' 'include each other'
plant host/locks.c '#include "base/be.h"' 'host/ includes only'
plant host/locks.c '#include "settings.h"' 'host/ includes only'
plant host/locks.c '#include "share/disk.h"' 'host/ includes only'
plant host/locks.c '#include <nbdkit-filter.h>' 'host/ knows nothing of nbdkit'
plant host/locks.c '#include "nbdkit_api.h"' 'host/ knows nothing of nbdkit'
plant host/claims.h '#include "host/chain.h"' 'include each other'
plant filter/filter.c '#include "base/be.h"' 'only qcow2.h'
plant filter/filter.c '#include <nbdkit-filter.h>' 'only nbdkit_api.h'
plant filter/below/next.c '#include "share/disk.h"' 'a file after its own'
plant filter/below/next.c '#include "embed.h"' 'a file after its own'
plant filter/share/disk.c '#include "requests.h"' 'a file after its own'
plant filter/share/disk.c '#include "control/control.h"' 'a file after its own'
plant filter/control/qmp.c '#include "list.h"' 'a file after its own'
plant filter/settings.c '#include "below/next.h"' 'a file after its own'
plant filter/new.c '#include "settings.h"' 'the file is not in the list'
plant filter/filter.c '#include "new.h"' 'that file is not in the list'
plant filter/share/views.h '#include "share/disk.h"' 'include each other'
plant tools/tool.c '#include "read/reader.h"' 'only qcow2.h'
plant tools/qcow2ctl/main.c '#include "edit/create.h"' 'only qcow2.h'
plant tools/qcow2ctl/main.c '#include "share/disk.h"' 'only qcow2.h'
plant tools/qcow2ctl/main.c '#include <nbdkit-filter.h>' 'nothing of nbdkit'
plant tools/qcow2ctl/ctl.h '#include "image.h"' 'include each other'
