#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The parser, --help, the man page and bash know the same parameters; the filter
# and the man page the same debug flags and lines of --dump-plugin; and each
# program of tools/ and its man page the same options.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"

man_page ()
{
    cat "$1/docs/nbdkit-qcow2-filter.pod"
}

keys_parsed ()
{
    grep -ohE 'strcmp \(key, "qcow2-[a-z0-9-]+"' "$1"/filter/*.c "$1"/filter/*/*.c |
        grep -oE 'qcow2-[a-z0-9-]+' | sort -u
}

keys_in_help ()
{
    sed -n '/^const char config_help/,/;$/p' "$1/filter/keys.c" |
        grep -oE '"qcow2-[a-z0-9-]+=<' | grep -oE 'qcow2-[a-z0-9-]+' | sort -u
}

keys_in_man ()
{
    man_page "$1" | grep -oE '^=item B<qcow2-[a-z0-9-]+=>' |
        grep -oE 'qcow2-[a-z0-9-]+' | sort -u
}

# What bash offers.
keys_completed ()
{
    grep -oE '^qcow2-[a-z0-9-]+=' "$1/filter/nbdkit-qcow2-filter.bash" |
        tr -d = | sort -u
}

# Anywhere in the text, as in an example.
keys_mentioned ()
{
    man_page "$1" | grep -oE '\bqcow2-[a-z0-9-]+=' | tr -d = | sort -u
}

flags_in_code ()
{
    grep -ohE '^NBDKIT_DLL_PUBLIC int qcow2_debug_[a-z0-9_]+' "$1"/filter/*.c "$1"/filter/*/*.c |
        sed 's/.*qcow2_debug_//' | sort -u
}

flags_in_man ()
{
    man_page "$1" | grep -oE '^=item B<-D qcow2\.[a-z0-9_]+=' |
        sed 's/.*qcow2\.\(.*\)=/\1/' | sort -u
}

dump_in_code ()
{
    grep -oE 'printf \("qcow2_[a-z0-9_]+=' "$1/filter/filter.c" |
        grep -oE 'qcow2_[a-z0-9_]+' | sort -u
}

dump_in_man ()
{
    man_page "$1" | grep -oE '^=item B<qcow2_[a-z0-9_]+=>' |
        grep -oE 'qcow2_[a-z0-9_]+' | sort -u
}

# same TREE A B: the lists are equal, and not empty.
same ()
{
    "$2" "$1" > "$tmp/a"
    "$3" "$1" > "$tmp/b"
    [ -s "$tmp/a" ] || { echo "$2: nothing found"; return 1; }
    diff --label "$2" --label "$3" -u "$tmp/a" "$tmp/b"
}

check_help_vs_man ()
{
    same "$1" keys_parsed keys_in_help &&
        same "$1" keys_parsed keys_in_man &&
        same "$1" keys_parsed keys_completed &&
        same "$1" keys_parsed keys_mentioned &&
        same "$1" flags_in_code flags_in_man &&
        same "$1" dump_in_code dump_in_man
}

# The compiled filter has the parameters found above.
check_real_help ()
{
    nbdkit --help "--filter=$1" null | grep -oE '^qcow2-[a-z0-9-]+=<' |
        tr -d '=<' | sort -u > "$tmp/a"
    keys_in_help "$top_srcdir" > "$tmp/b"
    diff --label "nbdkit --help" --label keys_in_help -u "$tmp/a" "$tmp/b"
}

tool_help ()
{
    "${PYTHON:-/usr/bin/python3}" "$1/tools/$2" --help |
        grep -oE '^  (-h, )?--[a-z-]+' | grep -oE -e '--[a-z-]+' | sort -u
}

tool_man ()
{
    grep -oE '^=item B<--[a-z-]+>' "$1/docs/$2.pod" |
        grep -oE -e '--[a-z-]+' | sort -u
}

tool_synopsis ()
{
    { sed -n '/^=head1 SYNOPSIS/,/^=head1 DESC/p' "$1/docs/$2.pod" |
          grep -oE -e '\[--[a-z-]+' | tr -d '['
      echo --help; } | sort -u
}

check_tool ()
{
    local list

    tool_man "$1" "$2" > "$tmp/man"
    [ -s "$tmp/man" ] || { echo "tool_man: nothing found"; return 1; }
    for list in tool_help tool_synopsis; do
        "$list" "$1" "$2" > "$tmp/a"
        diff --label "$list" --label tool_man -u "$tmp/a" "$tmp/man" ||
            return 1
    done
}

# break_it FILE SED-PROGRAM TEXT
break_it ()
{
    rm -rf "$tmp/tree"
    mkdir "$tmp/tree"
    cp -R "$top_srcdir/filter" "$top_srcdir/docs" "$tmp/tree/"
    chmod -R u+w "$tmp/tree"
    sed -i "$2" "$tmp/tree/$1"
    planted "$2 in $1" "$3" check_help_vs_man "$tmp/tree"
}

clean check_help_vs_man "$top_srcdir"

pod=docs/nbdkit-qcow2-filter.pod
break_it "$pod" 's/^=item B<qcow2-cache-size=>/=item B<cache-size=>/' \
         '-qcow2-cache-size'
break_it "$pod" 's/^=head1 EXAMPLES/&\n\nSee qcow2-gone=1./' '+qcow2-gone'
break_it "$pod" 's/^=item B<-D qcow2.io=/=item B<-D qcow2.oi=/' '+oi'
break_it "$pod" 's/^=item B<qcow2_zstd=>/=item B<qcow2_lz4=>/' '-qcow2_zstd'
break_it filter/keys.c 's/"qcow2-cache-size=</"cache-size=</' \
         '-qcow2-cache-size'
break_it filter/nbdkit-qcow2-filter.bash '/^qcow2-raw=/d' '-qcow2-raw'
break_it filter/parameters.c \
         's/strcmp (key, "qcow2-cache-size")/& || strcmp (key, "qcow2-x")/' \
         '-qcow2-x'

if "${PYTHON:-/usr/bin/python3}" -c 'import nbd' 2> /dev/null; then
    tool=nbd-apply-extents
    clean check_tool "$top_srcdir" $tool
    mkdir -p "$tmp/tools/tools" "$tmp/tools/docs"
    cp "$top_srcdir/tools/$tool" "$tmp/tools/tools/"
    sed 's/^=item B<--resize>/=item B<--size>/' \
        "$top_srcdir/docs/$tool.pod" > "$tmp/tools/docs/$tool.pod"
    planted "another option in $tool.pod" '-resize' check_tool "$tmp/tools" \
            $tool
fi

so=$top_builddir/filter/.libs/nbdkit-qcow2-filter.so
if [ -f "$so" ] && command -v nbdkit > /dev/null; then
    clean check_real_help "$so"
fi
