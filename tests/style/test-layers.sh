#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Who includes whom.  In core/ a file includes headers of its own folder and
# of folders before it in the list below, never of a later one or of one on
# the same line.  filter/ and tools/ see nothing of core/ but qcow2.h, and
# core/ sees nothing of nbdkit.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires awk

# Prints the violations in a tree; fails if there are any.
# No space before the parenthesis of a call: awk allows it only for functions
# of its own, though some let it pass.
# shellcheck disable=SC2016         # awk's variables, not ours.
check_layers ()
{
    (cd "$1" && { find core filter tools -name '*.[ch]' 2>/dev/null || :; } |
         sort | xargs awk '
    BEGIN {
        n = split ("base format codec io meta map,alloc,check data read write image view", l)
        for (i = 1; i <= n; ++i) {
            m = split (l[i], names, ",")
            for (j = 1; j <= m; ++j) rank[names[j]] = i
        }
    }
    function bad(why)
    {
        printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why
        found = 1
    }
    /^[ \t]*#[ \t]*include/ {
        name = $0
        sub (/^[ \t]*#[ \t]*include[ \t]*/, "", name)
        system_header = name ~ /^</
        gsub (/[<">]|[ \t].*/, "", name)
        nr_parts = split (name, part, "/")
        split (FILENAME, where, "/")

        if (name ~ /(^|\/)\.\.?\//) bad("no relative paths")
        else if (where[1] != "core") {
            if (system_header) next
            if (nr_parts > 1 && !(where[1] == "filter" &&
                                   part[1] ~ /^(below|share)$/))
                bad("only qcow2.h of core/ is public")
        }
        else if (name ~ /nbdkit/) bad("core/ knows nothing of nbdkit")
        else if (system_header || name == "config.h" || name == "qcow2.h")
            next
        else if (where[2] == "qcow2.h") bad("the public header stands alone")
        else if (nr_parts != 2 || !(part[1] in rank))
            bad("not FOLDER/FILE.h with a folder of the list")
        else if (!(where[2] in rank)) bad("the folder is not in the list")
        else if (rank[part[1]] > rank[where[2]]) bad("a layer below its own")
        else if (rank[part[1]] == rank[where[2]] && part[1] != where[2])
            bad("siblings do not include each other")
    }
    END { exit found }')
}

# Plants one line in a copy; the check must complain about that file.
plant ()
{
    local file=$1 line=$2 why=$3

    rm -rf "$tmp/tree"
    mkdir "$tmp/tree"
    (cd "$top_srcdir" && find core filter -name '*.[ch]' -print0 |
         tar --null -T - -cf -) | tar -C "$tmp/tree" -xf -
    chmod -R u+w "$tmp/tree"
    mkdir -p "$tmp/tree/$(dirname "$file")"
    echo "$line" >> "$tmp/tree/$file"
    planted "$line in $file" "$why" check_layers "$tmp/tree"
}

clean check_layers "$top_srcdir"
plant core/format/l2e.c '#include "io/io.h"' 'a layer below its own'
plant core/base/bits.h '  #  include "format/l2e.h"' 'a layer below its own'
plant core/map/map.c '#include "alloc/alloc.h"' 'siblings'
plant core/alloc/alloc.c '#include "map/map.h"' 'siblings'
plant core/io/io.c '#include <nbdkit-filter.h>' 'nothing of nbdkit'
plant core/io/io.c '#include "../meta/cache.h"' 'no relative paths'
plant core/io/io.c '#include "cache.h"' 'not FOLDER/FILE.h'
plant core/extra/new.c '#include "base/be.h"' 'the folder is not in the list'
plant core/qcow2.h '#include "base/be.h"' 'stands alone'
plant filter/filter.c '#include "base/be.h"' 'only qcow2.h'
plant tools/tool.c '#include "read/reader.h"' 'only qcow2.h'
