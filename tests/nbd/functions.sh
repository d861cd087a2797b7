# SPDX-License-Identifier: BSD-3-Clause
# functions.sh - common functions of the end-to-end tests; sourced by each.
#
# Owns      a folder $tmp per test, and every server that start_nbdkit started:
#           all are stopped when the test ends, and one that does not end
#           cleanly (a signal, a report of a sanitizer, an exit code) fails the
#           test.
# Method    the server is always started apart from its clients, never with
#           --run, since they would inherit the libraries that are preloaded
#           into it for a sanitizer.
#
# Environment
#   top_srcdir, top_builddir   set by make; by hand, run a test in the folder
#                              tests/ of a build
#   NBDKIT=PROGRAM             another nbdkit
#   FILTER=NAME|FILE           another filter than the one built
#   SANITIZER=address|thread   how the filter was built
#   VALGRIND=1                 run the server under valgrind
#   KEEP=1                     do not remove $tmp
#
# Exit codes: 77 the test was skipped, 99 it could not be run.
# shellcheck shell=bash

# Several of the files that a test sources source this one.
[ -z "${functions_are_here:-}" ] || return 0
functions_are_here=1

set -e
set -o pipefail

testname=$(basename "$0" .sh)
nbddir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${top_srcdir:=$(cd "$nbddir/../.." && pwd)}"
: "${top_builddir:=$(cd .. && pwd)}"
: "${PYTHON:=/usr/bin/python3}"
: "${NBDKIT:=nbdkit}"
: "${SANITIZER:=no}"
: "${VALGRIND:=}"
lib=$top_srcdir/tests/lib
filter=${FILTER:-$top_builddir/filter/.libs/nbdkit-qcow2-filter.so}
LC_ALL=C
PYTHONDONTWRITEBYTECODE=1
PYTHONPATH=$nbddir:$lib
# Servers such as nginx and sshd are not in an ordinary user's path.
PATH=$PATH:/usr/sbin:/sbin
# A server that finds a bug in itself aborts, which fails the test.
export QCOW2_ABORT_ON_BUGS=1
export LC_ALL PYTHONDONTWRITEBYTECODE PYTHONPATH top_srcdir top_builddir
export PYTHON

# ---- Results -------------------------------------------------------------

skip ()
{
    echo "$testname: skipped: $*"
    exit 77
}

fail ()
{
    echo "$testname: FAILED: $*" >&2
    exit 1
}

broken ()
{
    echo "$testname: cannot run: $*" >&2
    exit 99
}

# Slow operations are slower still under a checker.
patience=60
instrumented=
if [ -n "$VALGRIND" ] || [ "$SANITIZER" != no ]; then
    patience=180
    instrumented=1
fi

# ---- Cleaning up ---------------------------------------------------------

tmp=$(mktemp -d "${TMPDIR:-/tmp}/qcow2-$testname.XXXXXX")
cleanups=()
servers=()              # names of those that are running
declare -A server_pid

# cleanup_fn COMMAND [ARGUMENT...]: run it when the test ends; last in, first
# out.
cleanup_fn ()
{
    cleanups=("$(printf '%q ' "$@")" "${cleanups[@]}")
}

at_exit ()
{
    local status=$? command name

    trap - EXIT
    set +e
    for name in "${servers[@]}"; do
        stop_nbdkit "$name" || [ "$status" -ne 0 ] || status=1
    done
    for command in "${cleanups[@]}"; do
        eval "$command"
    done
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        for name in "$tmp"/*.log; do
            [ -e "$name" ] || continue
            echo "--- the end of $name" >&2
            tail -n 20 "$name" >&2
        done
    fi
    if [ -n "${KEEP:-}" ]; then
        echo "$testname: kept $tmp" >&2
    else
        rm -rf "$tmp"
    fi
    exit "$status"
}
trap at_exit EXIT
trap 'exit 1' INT TERM HUP

# ---- Requirements of a test ----------------------------------------------

# requires COMMAND [ARGUMENT...]: skip unless it succeeds.
requires ()
{
    "$@" </dev/null >/dev/null 2>&1 || skip "'$*' does not work here"
}

requires_program ()
{
    local program

    for program; do
        [ -n "$(type -P "$program")" ] || skip "$program is not installed"
    done
}

requires_plugin ()
{
    "$NBDKIT" --dump-plugin "$1" </dev/null >/dev/null 2>&1 ||
        skip "nbdkit has no plugin $1"
}

requires_filter ()
{
    "$NBDKIT" --dump-plugin --filter="$1" null </dev/null >/dev/null 2>&1 ||
        skip "nbdkit has no filter $1"
}

# The Python bindings, and the programs.
requires_libnbd ()
{
    requires_program nbdinfo nbdcopy
    "$PYTHON" -c 'import nbd' 2>/dev/null || skip "no Python module nbd"
}

requires_qemu ()
{
    requires_program qemu-img qemu-io qemu-nbd
}

# requires_nbdkit MAJOR MINOR: at least this version.
requires_nbdkit ()
{
    local version

    version=$("$NBDKIT" --dump-config | sed -n 's/^version=//p')
    [ "$(printf '%s\n' "$1.$2" "$version" | sort -V | head -n 1)" = "$1.$2" ] ||
        skip "nbdkit $version is older than $1.$2"
}

# For tests of programs that would inherit a sanitizer's library.
skip_if_instrumented ()
{
    [ -z "$instrumented" ] || skip "not with a sanitizer or valgrind: $*"
}

# wait_for COMMAND [ARGUMENT...]: repeat it until it succeeds.
wait_for ()
{
    local i

    for ((i = 0; i < patience * 20; i++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    broken "gave up waiting for: $*"
}

# ---- Servers -------------------------------------------------------------

# Functions that a sanitizer needs to be replaced.  dlclose: reports have no
# names of unloaded functions, so suppressions would not match.  freelocale:
# with libasan, the first strerror of nbdkit keeps glibc's lock of the locale
# (without any filter, too), and exit() waits for it for ever in a destructor
# of libp11-kit.
make_preload ()
{
    preload=$tmp/preload.so
    [ ! -e "$preload" ] || return 0
    gcc -shared -fPIC -x c -o "$preload" - <<'END' || broken "no compiler"
int dlclose (void *handle) { (void) handle; return 0; }
void freelocale (void *locale) { (void) locale; }
END
    # Leaks of nbdkit 1.32's own plugins and filters.
    cat >"$tmp/suppressions" <<'END'
leak:nbdkit-data-plugin.so
leak:nbdkit-memory-plugin.so
leak:nbdkit-multi-conn-filter.so
END
    # The dynamic linker frees thread-local variables of connections that have
    # ended, which nobody joins; how it knows of their end cannot be seen.
    echo 'race:rtld-malloc.h' >"$tmp/tsan-suppressions"
}

# A command of the test that runs the servers, before all other words.
launcher=()

# refuse_syscalls RULE[,RULE...]: servers started from now on meet these
# failures, see refuse_syscalls.c; without a rule, none.
refuse_syscalls ()
{
    local program=$tmp/refuse_syscalls

    launcher=()
    [ $# -gt 0 ] || return 0
    if [ ! -e "$program" ]; then
        gcc -o "$program" "$nbddir/refuse_syscalls.c" || broken "no compiler"
        requires "$program" "$1" true
    fi
    launcher=("$program" "$1")
}

# Sets the array 'nbdkit_command', which runs the server.
set_nbdkit_command ()
{
    nbdkit_command=("$NBDKIT")
    case $SANITIZER in
    no) ;;
    address)
        make_preload
        nbdkit_command=(env
            "LD_PRELOAD=$(gcc -print-file-name=libasan.so) $preload"
            "ASAN_OPTIONS=detect_leaks=${find_leaks-1}"
            "LSAN_OPTIONS=suppressions=$tmp/suppressions:print_suppressions=0"
            "UBSAN_OPTIONS=print_stacktrace=1"
            "${nbdkit_command[@]}")
        ;;
    thread)
        make_preload
        nbdkit_command=(env
            "LD_PRELOAD=$(gcc -print-file-name=libtsan.so) $preload"
            "TSAN_OPTIONS=exitcode=66:suppressions=$tmp/tsan-suppressions"
            "${nbdkit_command[@]}")
        # Without random addresses it finds more; on new kernels it needs this.
        if setarch -R true 2>/dev/null; then
            nbdkit_command=(setarch -R "${nbdkit_command[@]}")
        fi
        ;;
    *) broken "SANITIZER=$SANITIZER" ;;
    esac
    if [ -n "$VALGRIND" ]; then
        [ -n "$(type -P valgrind)" ] || skip "valgrind is not installed"
        nbdkit_command=(valgrind -q --error-exitcode=119 --leak-check=full
            --errors-for-leak-kinds=definite --show-leak-kinds=definite
            --keep-debuginfo=yes --suppressions="$nbddir/valgrind.supp"
            "${nbdkit_command[@]}")
    fi
    nbdkit_command=("${launcher[@]}" "${nbdkit_command[@]}")
}

# run_nbdkit ARGUMENT...: in the foreground, for its output; 0 if it succeeds.
run_nbdkit ()
{
    local -a nbdkit_command

    check_filter
    set_nbdkit_command
    "${nbdkit_command[@]}" "$@" </dev/null
}

check_filter ()
{
    case $filter in
    */*) [ -f "$filter" ] || skip "the filter is not built ($filter)" ;;
    esac
}

# start_nbdkit [-P NAME] ARGUMENT...: start a server and wait until it
# listens.  Sets $sock, $uri, $pid and $log; these are also $tmp/NAME.sock
# and so on.  Returns 1 if the server did not start.
start_nbdkit ()
{
    local name=nbdkit tries=$((patience * 20)) i
    local -a nbdkit_command

    if [ "$1" = -P ]; then
        name=$2
        shift 2
    fi
    [ -z "${server_pid[$name]:-}" ] || broken "server $name runs already"
    check_filter
    set_nbdkit_command
    sock=$tmp/$name.sock
    uri="nbd+unix:///?socket=$sock"
    log=$tmp/$name.log
    rm -f "$sock" "$tmp/$name.pid"
    "${nbdkit_command[@]}" -f -P "$tmp/$name.pid" -U "$sock" "$@" \
        </dev/null >"$log" 2>&1 &
    pid=$!
    server_pid[$name]=$pid
    servers+=("$name")
    for ((i = 0; i < tries; i++)); do
        [ -s "$tmp/$name.pid" ] && return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "$testname: server '$name' did not start: $*" >&2
    cat "$log" >&2
    stop_nbdkit "$name" || true
    return 1
}

# stop_nbdkit [NAME]: ask the server to end; returns 1 if it does not, or not
# cleanly.  Clients must have disconnected.
stop_nbdkit ()
{
    local name=${1:-nbdkit} i status=0 running
    local pid=${server_pid[$name]:-}
    local -a rest=()

    [ -n "$pid" ] || broken "no server $name"
    # nbdkit leaks the handles of connections that it is still closing when
    # it is told to stop.
    [ -z "$instrumented" ] || sleep 0.5
    kill -TERM "$pid" 2>/dev/null || true
    for ((i = 0; i < patience * 50; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
    if kill -0 "$pid" 2>/dev/null; then
        echo "$testname: server '$name' ignored SIGTERM; killing it" >&2
        kill -KILL "$pid"
    fi
    wait "$pid" || status=$?
    unset "server_pid[$name]"
    for running in "${servers[@]}"; do
        [ "$running" = "$name" ] || rest+=("$running")
    done
    servers=("${rest[@]}")
    if [ "$status" -ne 0 ]; then
        echo "$testname: server '$name' ended with status $status" >&2
        return 1
    fi
    if grep -E 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:' \
            "$tmp/$name.log" >&2; then
        echo "$testname: server '$name': report of a sanitizer" >&2
        return 1
    fi
    return 0
}

# serve ARGUMENT... --run COMMAND: run the shell command while a server runs,
# with $uri and $sock set.
serve ()
{
    local -a arguments=()
    local status=0

    while [ $# -gt 0 ] && [ "$1" != --run ]; do
        arguments+=("$1")
        shift
    done
    [ $# -eq 2 ] || broken "serve without --run COMMAND"
    start_nbdkit -P serve "${arguments[@]}" || return 1
    uri=$uri sock=$sock bash -e -c "$2" || status=$?
    stop_nbdkit serve || status=1
    return "$status"
}

# refused REGEX ARGUMENT...: the server must refuse its command line with a
# matching message.
refused ()
{
    local regex=$1 status=0
    local -a nbdkit_command

    shift
    check_filter
    set_nbdkit_command
    timeout "$((patience * 2))" "${nbdkit_command[@]}" -f -U "$tmp/refused.sock" \
        "$@" </dev/null >"$tmp/refused.log" 2>&1 || status=$?
    [ "$status" -eq 1 ] ||
        fail "expected to be refused, but status is $status: $*"
    grep -E -q -e "$regex" "$tmp/refused.log" ||
        fail "no message like '$regex' for: $*"
}

# opens: prints how many images the last server has opened so far; needs -v.
opens ()
{
    grep -c 'qcow2: .*: opened: version' "$log" || true
}

# ---- Images --------------------------------------------------------------

# make_disk FILE SIZE [UNIT [SEED]]: raw contents in which every 64 bytes name
# their place, mixed with noise and zeros.
make_disk ()
{
    "$PYTHON" - "$@" <<'END'
import sys
from build import pattern
path, size, unit, seed = (sys.argv[1:] + ["65536", "1"])[:4]
open(path, "wb").write(pattern(int(size), int(unit), int(seed)))
END
}

# make_image FILE RAW [qemu-img convert's options...]
make_image ()
{
    local image=$1 raw=$2

    shift 2
    qemu-img convert -f raw -O qcow2 "$@" "$raw" "$image"
}

# A disk of 8 MiB with all kinds of contents, $tmp/disk.raw, and as qcow2,
# $tmp/disk.qcow2.
make_standard_image ()
{
    make_disk "$tmp/disk.raw" $((8 * 1024 * 1024)) 65536
    make_image "$tmp/disk.qcow2" "$tmp/disk.raw"
}

nbdtool ()
{
    "$PYTHON" "$nbddir/nbdtool.py" "$@"
}

# by_qemu URI RAW [ARGUMENT...]: QEMU's own client reads RAW there, and so does
# qemu-img with these arguments.
by_qemu ()
{
    "$PYTHON" "$nbddir/qemu_client.py" "$@"
}

export_uri ()           # NAME [SERVER]
{
    echo "nbd+unix:///$1?socket=$tmp/${2:-nbdkit}.sock"
}

# check_read_only: the export at $uri says that it is read-only, and a client
# that writes all the same gets errors.
check_read_only ()
{
    "$PYTHON" - "$uri" <<'END'
import sys
import nbd

handle = nbd.NBD()
handle.set_strict_mode(0)       # send what the server does not offer, too
handle.connect_uri(sys.argv[1])
assert handle.is_read_only()
assert not (handle.can_flush() or handle.can_fua() or handle.can_trim()
            or handle.can_zero() or handle.can_fast_zero())
for request in (lambda: handle.pwrite(b"x" * 512, 0),
                lambda: handle.zero(512, 0), lambda: handle.trim(512, 0)):
    try:
        request()
    except nbd.Error as error:
        assert error.errnum, error
    else:
        raise AssertionError("a write was accepted")
assert len(handle.pread(512, 0)) == 512
handle.shutdown()
END
}
