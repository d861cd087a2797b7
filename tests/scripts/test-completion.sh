#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Completion for bash of "nbdkit --filter=qcow2 ...": our parameters and their
# values, besides what nbdkit's own completion offers, and only with the filter.
# That the list is complete is for style/test-help-vs-man.sh.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/../style/lib.sh"

file=$top_srcdir/filter/nbdkit-qcow2-filter.bash
# Stands for nbdkit's own.
mkdir -p "$tmp/share/bash-completion/completions" "$tmp/cwd/images"
: > "$tmp/cwd/disk.qcow2"
cat > "$tmp/share/bash-completion/completions/nbdkit" <<'END'
_nbdkit () { COMPREPLY=("own=${COMP_WORDS[COMP_CWORD]}"); }
complete -F _nbdkit nbdkit
END

# words WORD...: what is offered for the last one, on one line.
words ()
{
    # shellcheck disable=SC2016     # The inner shell expands these.
    XDG_DATA_DIRS=${share-$tmp/share} bash -c '
        cd "$1"
        . "$2"
        shift 2
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        # As bash would, twice: the first time loads the other one.
        for _ in 1 2; do
            f=$(complete -p nbdkit | sed "s/.*-F \([^ ]*\) .*/\1/")
            "$f" nbdkit "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[-2]}"
        done
        echo $(printf "%s\n" "${COMPREPLY[@]}" | sort)' - \
        "$tmp/cwd" "$file" "$@"
}

# offered WANT WORD...
offered ()
{
    local got want=$1

    shift
    got=$(words "$@")
    [ "$got" = "$want" ] || fail "$*: offered '$got', not '$want'"
    echo "ok: $*: $got"
}

offered "own=q" nbdkit q
offered "own=qcow2-l" nbdkit --filter=cow file qcow2-l
offered "own=qcow2-l" nbdkit --filter=qcow2x file qcow2-l
for filter in "--filter=qcow2" "--filter = qcow2" "--filter qcow2" \
        "--filter=./nbdkit-qcow2-filter.so"; do
    # shellcheck disable=SC2086     # Words.
    offered "own=qcow2-l qcow2-lazy-refcounts= qcow2-lock=" \
        nbdkit $filter file qcow2-l
done
offered "own=qcow2-c qcow2-cache-clean-interval= qcow2-cache-size= qcow2-chain-depth= \
qcow2-check-at-start= qcow2-cluster-cache-size= qcow2-compress= \
qcow2-control= qcow2-create=" nbdkit --filter=qcow2 file disk.qcow2 qcow2-c
# With "=" among the characters that end words, and without.
offered "off on" nbdkit --filter=qcow2 file qcow2-lock =
offered "off on" nbdkit --filter=qcow2 file qcow2-lock = o
offered "qcow2-lock=off qcow2-lock=on" nbdkit --filter=qcow2 file qcow2-lock=o
offered "invalidate" nbdkit --filter=qcow2 file qcow2-bitmaps = i
offered "disk.qcow2" nbdkit --filter=qcow2 file qcow2-data-file = d
offered "images" nbdkit --filter=qcow2 file qcow2-follow =
offered "" nbdkit --filter=qcow2 file qcow2-memory = 1
# Where nbdkit brings none.
share=/nowhere
offered "qcow2-lazy-refcounts= qcow2-lock=" \
    nbdkit --filter=qcow2 file qcow2-l
