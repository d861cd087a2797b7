#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# shellcheck disable=SC2016         # These backquotes are not the shell's.
#
# The documentation is up to date: each path and function that it names exists,
# and docs/FILES.md names each source file, but for the commands of qcow2ctl.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"

# The text between backquotes, one per line.
quoted ()
{
    grep -oE '`[^`]+`' "$1" | tr -d '`'
}

# Paths are relative to the top of the tree, or to core/, as "io/io.c" in
# docs/ARCHITECTURE.md; "x.[ch]" and "test-*.sh" stand for several files. NAME
# stands for any name.  Names of exports look like paths.
check_paths ()
{
    local doc path bad=0

    for doc in "$1"/*.md "$1"/docs/*.md; do
        while IFS= read -r path; do
            path=${path#./}
            if ! compgen -G "$1/$path" > /dev/null &&
                    ! compgen -G "$1/core/$path" > /dev/null; then
                echo "${doc#"$1"/}: there is no $path"
                bad=1
            fi
        done < <({ quoted "$doc" |
                       grep -E '^[][A-Za-z0-9_.*-]+/[][A-Za-z0-9_.*/-]*$' |
                       grep -vE '^(filter/\.libs/|build-)|NAME|\.log$' |
                       grep -vE '^(snapshot|snapshot-id|bitmap|diff|layer)/' || :
                   grep -oE '\]\([^)#:]+\)' "$doc" | tr -d ']()' |
                       sed "s|^|$(cd "$(dirname "$doc")" &&
                                  realpath --relative-to="$1" .)/|" || :
                 } | sort -u)
    done
    return $bad
}

# Functions are written `name ()`.
check_functions ()
{
    local doc name bad=0

    (cd "$1" && find core host filter tools -name '*.[ch]' -exec cat {} +) |
        grep -oE '[A-Za-z0-9_]+' | sort -u > "$tmp/words"
    for doc in "$1"/docs/*.md; do
        while IFS= read -r name; do
            echo "${doc#"$1"/}: there is no function $name"
            bad=1
        done < <(quoted "$doc" | sed -n 's/^\([a-z0-9_]*\) ()$/\1/p' |
                     sort -u | comm -23 - "$tmp/words")
    done
    return $bad
}

check_files ()
{
    local f bad=0

    quoted "$1/docs/FILES.md" | sort -u > "$tmp/named"
    while IFS= read -r f; do
        echo "docs/FILES.md does not name $f"
        bad=1
    done < <(c_files '[ch]' "$1" | grep -v '^tools/qcow2ctl/cmd_' |
                 sed 's,^core/,,' |
                 awk 'NR == FNR { named[$0]; next }
                      { both = $0; sub (/\.[ch]$/, ".[ch]", both) }
                      !($0 in named) && !(both in named)' "$tmp/named" -)
    return $bad
}

# The README must stay short.
check_readme_length ()
{
    [ "$(wc -l < "$1/README.md")" -le 150 ] ||
        { echo "README.md is longer than 150 lines"; return 1; }
}

check_docs ()
{
    check_paths "$1" && check_functions "$1" && check_files "$1" &&
        check_readme_length "$1"
}

clean check_docs "$top_srcdir"

copy_source "$tmp/tree"
for text in "a path|core/io/gone.c|no core/io/gone.c" \
            "a link|[this](gone.md)|no docs/gone.md" \
            "a function|q2_gone ()|no function q2_gone"; do
    IFS='|' read -r what fault said <<< "$text"
    case $what in "a link") ;; *) fault="\`$fault\`" ;; esac
    echo "See $fault." >> "$tmp/tree/docs/LOCKING.md"
    planted "$what" "$said" check_docs "$tmp/tree"
    cp "$top_srcdir/docs/LOCKING.md" "$tmp/tree/docs/LOCKING.md"
done
echo > "$tmp/tree/core/io/new.c"
planted "a new file" "does not name io/new.c" check_docs "$tmp/tree"
