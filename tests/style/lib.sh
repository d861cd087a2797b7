# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# lib.sh - sourced by the tests of this folder: where things are, how a test
# ends, and the proof that a check can fail.
#
# A test is a function that checks one source tree.  It is called with the real
# tree, and with copies that have a fault made on purpose: a check that does
# not find it fails the test ("planted").

set -e
set -u
set -o pipefail

# Set by make check; the defaults are for running a test by hand after a
# build in the source tree.
top_srcdir=${top_srcdir:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
top_builddir=${top_builddir:-$top_srcdir}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

skip ()
{
    echo "SKIP: $*"
    exit 77
}

fail ()
{
    echo "FAIL: $*"
    exit 1
}

# The sources do not depend on the options of the build.
if [ "${SANITIZER:-no}" != no ] || [ -n "${VALGRIND:-}" ]; then
    skip "has been run without a sanitizer or valgrind"
fi

# Skips the test unless all these programs are installed.
requires ()
{
    local program

    for program; do
        command -v "$program" > /dev/null || skip "needs $program"
    done
}

requires_build ()
{
    [ -f "$top_builddir/config.h" ] || skip "needs a configured build"
}

# Runs a check on the real tree: it must succeed.
clean ()
{
    "$@" || fail "$1 found what is listed above"
    echo "ok: $* finds nothing"
}

# planted WHAT TEXT CHECK...: in a tree with a planted fault the check must
# fail, and print TEXT.
planted ()
{
    local what=$1 text=$2 out

    shift 2
    if out=$("$@" 2>&1); then
        fail "$1 did not notice: $what"
    fi
    grep -qF -- "$text" <<< "$out" || {
        echo "$out"
        fail "$1 failed, but not with '$text', for: $what"
    }
    echo "ok: $1 notices: $what"
}

# Copies the sources without the results of a build: all files that git does
# not ignore; everything if this is not a checkout.
copy_source ()
{
    local top

    rm -rf "$1"
    mkdir -p "$1"
    top=$(git -C "$top_srcdir" rev-parse --show-toplevel 2>/dev/null || :)
    if [ "$top" = "$(cd "$top_srcdir" && pwd -P)" ]; then
        git -C "$top_srcdir" ls-files -co --exclude-standard -z
    else
        (cd "$top_srcdir" && find . -type f -print0) |
            grep -zvE '/(_build|_inst|\.libs|\.deps)/|/Makefile$' |
            grep -zvE '/(config\.status|libtool)$|\.(o|lo|la|log|trs)$'
    fi | grep -zvE '(^|/)real-disk(\.new)?/' |
        (cd "$top_srcdir" && while IFS= read -r -d '' f; do
             if [ -e "$f" ]; then printf '%s\0' "$f"; fi
         done) |
        tar -C "$top_srcdir" --null -T - -cf - |
        tar -C "$1" --no-same-owner -xf -
    chmod -R u+w "$1"
}

# The C sources and headers, relative to the top of a tree.
c_files ()
{
    (cd "${2:-$top_srcdir}" && find core host filter tools -name "*.$1" | sort)
}

# Compiler options to find every header, for use in the top of a source
# tree.  An array: cflags.
set_cflags ()
{
    requires_build
    requires pkg-config
    read -r -a cflags <<< "$(pkg-config --silence-errors --cflags nbdkit \
        zlib libdeflate libzstd nettle libnbd jansson || :)"
    cflags+=(-std=gnu11 "-I$top_builddir" -I. -Icore -Ifilter -Itools/qcow2ctl)
}

# The files of one kind that can be compiled here; those of the filter need
# nbdkit's header.
compilable ()
{
    c_files "$1" | if pkg-config --exists nbdkit; then
        cat
    else
        grep -v '^filter/'
    fi | if pkg-config --exists libnbd; then
        cat
    else
        grep -v -x 'host/nbdpool.h'
    fi
}

# Calls a command for each file name in stdin, on all processors, in the
# top of the sources or of 'tree'; fails if one of them fails.
tree=$top_srcdir
for_each_file ()
{
    (cd "$tree" && xargs -r -P "$(nproc)" -n 1 "$@")
}

# Makes 'tree' a copy in which analysers see that functions of another file
# that report errors always fail; otherwise they follow impossible paths.
copy_for_analysis ()
{
    tree=$1
    mkdir "$tree"
    cp -R "$top_srcdir/core" "$top_srcdir/host" "$top_srcdir/filter" \
        "$top_srcdir/tools" "$tree/"
    chmod -R u+w "$tree"
    sed -i '$ d' "$tree/core/base/error.h"
    cat >> "$tree/core/base/error.h" <<'END'
#define q2_fail(...) (q2_fail (__VA_ARGS__), -1)
#define q2_fail_advise(...) (q2_fail_advise (__VA_ARGS__), -1)
#define q2_fail_io(...) (q2_fail_io (__VA_ARGS__), -1)
#define q2_fail_nomem(...) (q2_fail_nomem (__VA_ARGS__), -1)
#endif
END
    sed -i '$ d' "$tree/core/qcow2.h"
    cat >> "$tree/core/qcow2.h" <<'END'
#define qcow2_bug(...) (qcow2_bug (__VA_ARGS__), false)
#endif
END
    sed -i '$ d' "$tree/tools/qcow2ctl/ctl.h"
    cat >> "$tree/tools/qcow2ctl/ctl.h" <<'END'
#define fail_code(...) (fail_code (__VA_ARGS__), CODE_FAILED)
#endif
END
    sed -i '$ d' "$tree/core/base/assume.h"
    cat >> "$tree/core/base/assume.h" <<'END'
#define q2_assume_failed(...) (q2_assume_failed (__VA_ARGS__), false)
#define q2_check_failed(...) (q2_check_failed (__VA_ARGS__), false)
#endif
END
    # Not in the files that define these functions.
    sed -i '/^#include "base\/assume.h"/a #undef q2_assume_failed\n#undef q2_check_failed\n#undef qcow2_bug' "$tree/core/base/assume.c"
    sed -i '/^#include "base\/error.h"/a #undef q2_fail\n#undef q2_fail_advise\n#undef q2_fail_io\n#undef q2_fail_nomem' "$tree/core/base/error.c"
    sed -i '/^#include "ctl.h"/a #undef fail_code' "$tree/tools/qcow2ctl/report.c"
}

# Analysers do not know __attribute__ ((__cleanup__)).  Removes their reports,
# one line each, of leaks of variables that free themselves.
without_cleanup_leaks ()
{
    local line file rest name

    while IFS= read -r line; do
        file=${line%%:*}
        rest=${line#*: }
        case $rest in
        *"leak of memory pointed to by '"*) name=${rest##*by \'} ;;
        *"Memory leak: "*) name=${rest##*leak: } ;;
        *) echo "$line"; continue ;;
        esac
        name=${name%%[^A-Za-z0-9_]*}
        grep -qE "Q2_CLEANUP_[A-Z]+ .*\\*$name\\b" "$file" ||
            echo "$line"
    done
}
