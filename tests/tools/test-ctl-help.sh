#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl's parser, --help, man page and completion know the same commands and
# options; and each option of --help is accepted.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program awk

pod=$top_srcdir/docs/qcow2ctl.pod

# "COMMAND --option" for each option of each command, one per line; those that
# all have, or that say which other files may be opened, under another name.
from_program ()
{
    "$1" --complete | awk -F '\t' '{
        n = split ($2, o, " ")
        for (i = 1; i <= n; ++i) {
            sub (/=$/, "", o[i])
            print $1, o[i]
        }
    }' | sort -u
}

from_help ()
{
    local name

    "$1" --complete | cut -f 1 | while IFS= read -r name; do
        # shellcheck disable=SC2086
        "$1" $name --help | grep -oE '^  (-[A-Za-z],|   ) --[a-z-]+' |
            grep -oE -e '--[a-z-]+' | sed "s/^/$name /"
    done | sort -u
}

# The options of a section are its items.
from_man ()
{
    awk '
        /^=head/ { section = "" }
        /^=head2 Other files/ { section = "files" }
        /^=head1 OPTIONS/ { section = "general" }
        /^=head2 [a-z]/ {
            section = $2
            # Two words, the second without an option.
            if ($3 ~ /^[a-z-]+$/) section = section " " $3
            print section, "files-or-not" ($0 ~ /FILES/)
        }
        /^=item .*B<--/ && section != "" {
            line = $0
            while (match (line, /B<--[a-z-]+>/)) {
                print section, substr (line, RSTART + 2, RLENGTH - 3)
                line = substr (line, RSTART + RLENGTH)
            }
        }' "$1"
}

# With the options of "OPTIONS", and, where a heading has FILES, those of
# "Other files".
from_man_whole ()
{
    from_man "$1" > "$tmp/man"
    grep -v 'files-or-not' "$tmp/man" | grep -vE '^(files|general) '
    awk '/files-or-not/ { sub (/ files-or-not./, ""); print }' "$tmp/man" |
        while IFS= read -r name; do
            grep '^general ' "$tmp/man" | grep -v -e --version |
                sed "s/^general/$name/"
        done
    awk '/files-or-not1/ { sub (/ files-or-not1/, ""); print }' "$tmp/man" |
        while IFS= read -r name; do
            grep '^files ' "$tmp/man" | sed "s/^files/$name/"
        done
}

check ()
{
    from_program "$ctl" > "$tmp/program"
    [ -s "$tmp/program" ] || fail "there are no commands"
    from_help "$ctl" > "$tmp/help"
    from_man_whole "$1" | sort -u > "$tmp/whole"
    diff --label program --label --help -u "$tmp/program" "$tmp/help" &&
        diff --label program --label "man page" -u "$tmp/program" "$tmp/whole"
}

check "$pod" || fail "they differ"

# The check can fail.
planted ()
{
    sed "$1" "$pod" > "$tmp/bad.pod"
    if check "$tmp/bad.pod" > "$tmp/diff"; then
        fail "it did not notice: $1"
    fi
    grep -q -- "$2" "$tmp/diff" || fail "it did not say $2 after $1"
}
planted 's/^=head2 info/=head2 infos/' '^-info --help'
planted 's/B<--dry-run>$/B<--try>/' '^-check --dry-run'
planted 's/\[FILES\] //' '^-map --follow'
planted 's/B<--quiet>/B<--silent>/' '^-info --quiet'
planted 's/B<--force-share>/B<--unlocked>/' '^-info --force-share'

# The list of commands that work with -S; "bitmaps" stands for all of those.
served_by_program ()
{
    from_program "$ctl" | sed -n 's/ --socket$//p' |
        sed 's/^bitmap .*/bitmaps/'
}
served_by_man ()
{
    sed -n '/^The commands are /,/for servers/p' "$1" | tr '\n' ' ' |
        sed 's/for servers.*//' | grep -oE 'C<[a-z ]+>|bitmaps' |
        sed 's/^C<//; s/>$//' | sort -u
}
check_served ()
{
    served_by_program | sort -u > "$tmp/program"
    [ "$(wc -l < "$tmp/program")" -gt 8 ] || fail "no commands for servers"
    served_by_man "$1" | diff --label program --label "man page" -u \
        "$tmp/program" -
}
check_served "$pod" || fail "they differ in what works with -S"
for name in 'C<check>, ' 'C<resize>, ' 'C<jobs> and'; do
    sed "/^The commands are /,/^C<stats>/s/$name//" "$pod" > "$tmp/bad.pod"
    if check_served "$tmp/bad.pod" > "$tmp/diff"; then
        fail "it did not notice that '$name' is missing with -S"
    fi
done

# The keys of -o.
keys_of_help ()
{
    "$ctl" create --help | sed -n '/^Keys of -o/,/^$/p' |
        grep -oE '[a-z_.-]+=' | sort -u
}
keys_of_man ()
{
    grep -oE 'B<[a-z_.-]+=>' "$pod" | grep -oE '[a-z_.-]+=' | sort -u
}
keys_of_parser ()
{
    grep -oE '\{ "[a-z_.-]+", take' "$top_srcdir/host/newimage.c" |
        grep -oE '"[a-z_.-]+' | tr -d '"' | grep -v nocow |
        grep -v extent_size_hint | grep -v key-secret | sed 's/$/=/' | sort -u
}
keys_of_help > "$tmp/keys"
[ "$(wc -l < "$tmp/keys")" -gt 8 ] || fail "there are no keys in --help"
diff -u "$tmp/keys" <(keys_of_man) || fail "keys in the man page"
diff -u "$tmp/keys" <(keys_of_parser) || fail "keys in the parser"

# All commands are in the list of --help, with words.
"$ctl" --help > "$tmp/all"
"$ctl" --complete | cut -f 1 | while IFS= read -r name; do
    grep -qE "^  $name +[A-Z]" "$tmp/all" ||
        fail "--help does not list $name"
done

# The lines of --help are not too long.
{ cat "$tmp/all"
  "$ctl" --complete | cut -f 1 | while IFS= read -r name; do
      # shellcheck disable=SC2086
      "$ctl" $name --help
  done; } | awk 'length ($0) > 79 { print; bad = 1 } END { exit bad }' ||
    fail "the lines above are too long"

# Completion: the words that bash offers.
complete_line ()
{
    bash -c '
        . "$1/qcow2ctl.bash"
        PATH=$2:$PATH
        shift 2
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _qcow2ctl
        printf "%s\n" "${COMPREPLY[@]}"' - "$top_srcdir/tools/qcow2ctl" \
        "$(dirname "$ctl")" "$@" | sort
}
complete_line qcow2ctl '' > "$tmp/words"
"$ctl" --complete | cut -f 1 | cut -d ' ' -f 1 | sort -u |
    diff -u - "$tmp/words" || fail "these commands are offered"
complete_line qcow2ctl -q in > "$tmp/words"
[ "$(cat "$tmp/words")" = info ] || fail "'in' is completed to $(cat "$tmp/words")"
complete_line qcow2ctl --output json info --fo > "$tmp/words"
[ "$(tr '\n' ' ' < "$tmp/words")" = "--follow= --force-share --format= " ] ||
    fail "'info --fo' is completed to $(cat "$tmp/words")"
(cd "$tmp" && : > disk.qcow2 && complete_line qcow2ctl info dis) > "$tmp/words"
[ "$(cat "$tmp/words")" = disk.qcow2 ] || fail "no names of files are offered"
echo "ok"
