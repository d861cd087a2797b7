#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Every lock of core/ has the rank that docs/LOCKING.md gives it, which debug
# builds check (core/base/lock.h), and no lock goes unchecked.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires awk

# Prints what differs in a tree; fails if there is anything.
# shellcheck disable=SC2016         # awk's variables, not ours.
check_ranks ()
{
    (cd "$1" && {
         grep -o '^| [0-9]* | `[a-z_.]*`' docs/LOCKING.md |
             sed 's/[|`]//g; s/^/documented /'
         find core -name '*.[ch]' ! -path 'core/base/lock.*' | sort |
             xargs grep -hoE \
             '(q2_(mutex|rwlock)_init \(&[^,]*, |INITIALIZER \()[0-9]+, "[^"]*"' |
             sed 's/.*[ (]\([0-9]*\), "\(.*\)"/used \1 \2/'
         find core -name '*.[ch]' ! -path 'core/base/lock.*' | sort |
             { xargs grep -noE 'pthread_(mutex|rwlock)_[a-z]+' || :; } |
             sed 's/^/bare /'
     } | awk '
    $1 == "documented" { rank[$3] = $2 }
    $1 == "used" && !($3 in rank) { print $3 " is not documented"; bad = 1 }
    $1 == "used" && $3 in rank && rank[$3] != $2 {
        print $3 " has rank " $2 ", documented is " rank[$3]
        bad = 1
    }
    $1 == "used" { ++n }
    $1 == "bare" { print $2 ": not one of base/lock.h"; bad = 1 }
    END {
        if (n < 20) { print "only " n " locks found"; bad = 1 }
        exit bad
    }')
}

# plant WHY FILE SED-SCRIPT: changes a copy, about which the check complains.
plant ()
{
    rm -rf "$tmp/tree"
    mkdir "$tmp/tree"
    (cd "$top_srcdir" && find core docs/LOCKING.md \
         \( -name '*.[ch]' -o -name LOCKING.md \) -print0 |
         tar --null -T - -cf -) | tar -C "$tmp/tree" -xf -
    chmod -R u+w "$tmp/tree"
    sed "$3" "$tmp/tree/$2" > "$tmp/changed"
    cp "$tmp/changed" "$tmp/tree/$2"
    planted "$3 in $2" "$1" check_ranks "$tmp/tree"
}

clean check_ranks "$top_srcdir"
plant 'space.lock has rank 7, documented is 5' core/alloc/space.c \
      's/5, "space.lock"/7, "space.lock"/'
plant 'new.lock is not documented' core/alloc/space.c \
      's/5, "space.lock"/5, "new.lock"/'
plant 'not one of base/lock.h' core/read/stream.c \
      's/q2_mutex_lock (&/pthread_mutex_lock (\&/'
