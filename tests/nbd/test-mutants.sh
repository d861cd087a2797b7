#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Do these tests find bugs?  Each mutant is a server with one bug, and each
# test named with it must fail: neither pass nor be skipped.
#
# Environment
#   ONLY=REGEX   try only mutants whose descriptions match
#   BUILD_ONLY=yes
#                only see that those made of the sources can still be built
# shellcheck source=planted.sh source-path=SCRIPTDIR
source "$(dirname "$0")/planted.sh"

requires_qemu
requires_libnbd
skip_if_instrumented "once is enough"
[ "$(id -u)" -eq 0 ] || [ -n "${BUILD_ONLY:-}" ] ||
    skip "needs to be root, as some of the tests do"
check_filter
real=$(type -P "$NBDKIT")
wrong=0
expected=1

# mutant DESCRIPTION BODY TEST...: BODY is shell code that runs the server:
# $nbdkit is its program, "$@" are its arguments.
mutant ()
{
    local what=$1 body=$2 test status

    shift 2
    [ -z "${BUILD_ONLY:-}" ] && [[ $what =~ ${ONLY:-} ]] || return 0
    # shellcheck disable=SC2016     # Expanded in the wrapper.
    printf '%s\n' '#!/bin/bash' "nbdkit='$real'" \
        '[ "$1" = -f ] || exec "$nbdkit" "$@"' "$body" >"$tmp/wrapper"
    chmod +x "$tmp/wrapper"
    for test; do
        status=0
        NBDKIT=$tmp/wrapper "$nbddir/test-$test.sh" >"$tmp/output" 2>&1 ||
            status=$?
        if [ "$status" -eq $expected ]; then
            echo "status $status of $test: $what"
        else
            echo "WRONG status $status of $test: $what"
            wrong=$((wrong + 1))
        fi
    done
}

# above FILTER[,PARAMETER...] DESCRIPTION TEST...: a mutant that has another
# filter between the client and ours.
above ()
{
    local name=${1%%,*} parameters=${1#*,}

    [ "$parameters" != "$1" ] || parameters=
    if ! "$NBDKIT" --dump-plugin --filter="$name" null >/dev/null 2>&1; then
        echo "left out, there is no filter $name: $2"
        return 0
    fi
    mutant "$2" "exec \"\$nbdkit\" --filter=$name \"\$@\" ${parameters//,/ }" \
        "${@:3}"
}

# planted FILE SED-SCRIPT DESCRIPTION TEST...: a mutant that is built from the
# sources, of which one file of core/ has been changed.
planted ()
{
    local dir=$tmp/planted

    [[ $3 =~ ${ONLY:-} ]] || return 0
    build_planted "$dir" "$1" "$2"
    # shellcheck disable=SC2016     # Expanded in the wrapper.
    mutant "$3" 'for arg; do
             shift
             case $arg in
             --filter=*nbdkit-qcow2-filter.so)
                 set -- "$@" "--filter='"$dir"'/nbdkit-qcow2-filter.so" ;;
             *) set -- "$@" "$arg" ;;
             esac
         done
         exec "$nbdkit" "$@"' "${@:4}"
}

# The wrapper itself is harmless.
expected=0
# shellcheck disable=SC2016
mutant "nothing is wrong" 'exec "$nbdkit" "$@"' matrix-v1 plugin-file readonly
# shellcheck disable=SC2016
mutant "nothing is wrong" \
    '"$nbdkit" "$@" & trap "kill $!" TERM; wait $!; wait $!; exit 0' \
    matrix-v1 readonly
expected=1

above swab,swab-bits=16 "bytes are swapped" \
    matrix-v1 matrix-prealloc plugin-curl exports-dir exports-ignored \
    thread-models filters-below parameters requests bitflip
above noextents "everything is data" matrix-prealloc matrix-other extents \
    plugin-file
above truncate,round-up=512 "sizes are rounded up" matrix-sizes
above truncate,round-down=512 "sizes are rounded down" matrix-sizes
above error,error-pread=EIO,error-pread-rate=2% "some reads fail" \
    matrix-zstd exports-replaced truncate
above blocksize,maxdata=65536,maxlen=65536 "large requests are split" \
    requests
above cow "writes are accepted" readonly
above multi-conn,multi-conn-mode=disable "no multi-conn" matrix-v1
# shellcheck disable=SC2016
mutant "the server ends with an error" \
    '"$nbdkit" "$@" & trap "kill $!" TERM; wait $!; wait $!; exit 3' \
    matrix-v1 hostile readonly
# shellcheck disable=SC2016
mutant "the server opens the image again and again" \
    'echo "qcow2: x: opened: version" >&2; exec "$nbdkit" "$@"' \
    exports-ignored exports-links
# shellcheck disable=SC2016
mutant "the server serves the bytes of the image" \
    'for arg; do
         shift
         case $arg in
         --filter=*nbdkit-qcow2-filter.so) ;;
         *) set -- "$@" "$arg" ;;
         esac
     done
     exec "$nbdkit" "$@"' \
    matrix-v1 matrix-eof hostile truncate bitflip random-images \
    exports-dir exports-ignored exports-links exports-replaced \
    plugin-file plugin-memory plugin-data plugin-nbd plugin-curl plugin-ssh \
    plugin-split plugin-eval plugin-python filters-above filters-below \
    block-minimum error-below thread-models extents requests cache \
    block-size parameters readonly
# shellcheck disable=SC2016
mutant "the cache of tables has no limit" \
    'for arg; do
         shift
         set -- "$@" "${arg/qcow2-cache-size=1M/qcow2-cache-size=1G}"
     done
     exec "$nbdkit" "$@"' \
    memory

# Images with other files.  First, a server that is built here without a bug
# passes.
expected=0
planted data/store.c '$ a /* the same */' "nothing is wrong, built here" \
    chains write-layers
expected=1
planted data/store.c \
    's/^  const uint64_t inside = inside_below (s, len, guest_off);/  const uint64_t inside = 0;/' \
    "what is below reads as zeros" \
    chains write-layers remote-layers write-kill
planted data/store.c \
    's/if (inside < len)/if (0)/; s/memset (.*inside.*;/;/' \
    "behind the end of what is below there is anything" chains write-layers
planted data/store.c \
    's/^  q2_cipher_encrypt (.*/  memcpy (sectors, plain, span);/' \
    "writes are not encrypted" write-layers
planted data/store.c \
    's/^    (s->guest_iv ? first.guest_off : first.host_off)/    (first.guest_off)/' \
    "sectors that are written have the wrong number" write-layers
planted data/store.c \
    's/^  if (len == 0)$/  if (len == 0 || s->data)/' \
    "writes to the data file are dropped" write-layers write-kill
planted data/store.c \
    's/^  return s->data ? q2_io_flush.*/  return 0;/' \
    "the data file is not flushed" write-layers
planted write/allocate.c \
    's/ !q2_store_has_below (w->store,/ true || !q2_store_has_below (w->store,/' \
    "what surrounds a write is not copied from below" write-layers write-fs
planted write/zero.c \
    's/^  return q2_store_has_below (w->store, cluster.*/  return false;/' \
    "zeroed and trimmed clusters show what is below" write-layers
planted write/zero.c \
    's/^  if (w->store->raw)$/  if (0)/' \
    "zeroes do not reach a data file that is the disk" write-layers

ROUNDS=10 planted track/track.c \
    's/^    atomic_fetch_or (p, /    if (byte % 4 != 3) &/' \
    "some changes are not marked in bitmaps" restore-drill
ROUNDS=10 planted edit/transact.c \
    's/^    r = run (&g, err);/    struct q2_group one = g;\n    r = 0;\n    for (one.nr = 1; r == 0 \&\& one.members < g.members + nr; ++one.members) {\n      nanosleep (\&(struct timespec) { 0, 20000000 }, NULL);\n      r = run (\&one, err);\n    }/
     s/^#include <stdlib.h>/&\n#include <time.h>/' \
    "the images of a transaction have moments of their own" restore-drill

[ "$wrong" -eq 0 ] || fail "$wrong tests did not see what they must"
