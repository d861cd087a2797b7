# SPDX-License-Identifier: BSD-3-Clause
# functions.sh - common functions of the tests of qcow2ctl; sourced by each.
# Those of tests/nbd/functions.sh are there, too.
# shellcheck shell=bash

toolsdir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/nbd/functions.sh
. "$toolsdir/../nbd/functions.sh"

ctl=${CTL:-$top_builddir/tools/qcow2ctl/qcow2ctl}
[ -x "$ctl" ] || skip "qcow2ctl was not built"

# What it printed last, and its exit code.
out=$tmp/out
err=$tmp/err
code=0

# run_ctl [--wrapper COMMAND...] ARGUMENT...: fills these in.
run_ctl ()
{
    code=0
    "$ctl" "$@" > "$out" 2> "$err" < /dev/null || code=$?
}

# fails CODE TEXT ARGUMENT...: it must end with that code, and say that (an
# extended regular expression) on the standard error.
fails ()
{
    local want=$1 text=$2

    shift 2
    run_ctl "$@"
    [ "$code" -eq "$want" ] ||
        { cat "$err" >&2; fail "qcow2ctl $*: code $code, not $want"; }
    grep -qE -- "$text" "$err" ||
        { cat "$err" >&2; fail "qcow2ctl $* does not say '$text'"; }
}

# works ARGUMENT...: with code 0, and not a word on the standard error.
works ()
{
    run_ctl "$@"
    [ "$code" -eq 0 ] ||
        { cat "$err" >&2; fail "qcow2ctl $*: code $code"; }
    [ ! -s "$err" ] ||
        { cat "$err" >&2; fail "qcow2ctl $* says that"; }
}

has_json ()
{
    "$ctl" --version | grep -q json=yes
}

# has_locked PID FILE: the process has that file open, with a lock.
has_locked ()
{
    local file fd

    file=$(realpath "$2")
    for fd in "/proc/$1/fd/"*; do
        [ "$(readlink "$fd")" != "$file" ] ||
            ! grep -q '^lock:' "/proc/$1/fdinfo/${fd##*/}" || return 0
    done
    return 1
}

# For cleanup_fn: it may be gone already.
end_process ()
{
    kill "$1" 2> /dev/null || :
}
