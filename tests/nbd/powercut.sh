# SPDX-License-Identifier: BSD-3-Clause
# powercut.sh - servers whose file loses its power; sourced by the tests that
# cut it.
# shellcheck shell=bash
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/writing.sh"

skip_if_instrumented "what is preloaded would be in the way"
# shellcheck disable=SC2086      # It may have arguments.
${CC:-cc} -O1 -shared -fPIC -o "$tmp/powercut.so" \
    "$nbddir/powercut_preload.c" -ldl >"$tmp/cc.log" 2>&1 ||
    skip "the library to preload cannot be built here"

powercut ()
{
    "$PYTHON" "$nbddir/powercut.py" "$@"
}

# start_logged ARGUMENT...: start_nbdkit, with a log of all operations on
# $tmp/disk.qcow2, or on $logged_file.  fail_flush=N: the Nth flush fails.
start_logged ()
{
    cat >"$tmp/logged" <<SCRIPT
#!/bin/bash
exec env LD_PRELOAD='$tmp/powercut.so' POWERCUT_FILE='${logged_file:-$tmp/disk.qcow2}' \
    POWERCUT_LOG='$tmp/powercut.ops' POWERCUT_FAIL_FLUSH='${fail_flush:-0}' \
    '$NBDKIT' "\$@"
SCRIPT
    chmod +x "$tmp/logged"
    NBDKIT=$tmp/logged start_nbdkit --filter="$filter" "$@"
}

# campaign SEED OPTIONS FLUSHES OPERATIONS CUTS ARGUMENT...: test one server,
# with clients that connect twice.  With room=BYTES the file has that size at
# first.
campaign ()
{
    local seed=$1 options=$2 flushes=$3 operations=$4 cuts=$5 cluster round
    local -a more=()

    shift 5
    rm -f "$tmp/journal" "$tmp/powercut.ops"
    new_image 1G -o "$options"
    # Unflushed writes that growing could lose.
    [ "$(stat -c %s "$tmp/disk.qcow2")" -ge "${room:-0}" ] ||
        truncate -s "$room" "$tmp/disk.qcow2"
    cp "$tmp/disk.qcow2" "$tmp/initial.qcow2"
    cluster=$(qemu-img info --output=json "$tmp/disk.qcow2" |
        sed -n 's/.*"cluster-size": \([0-9]*\),*/\1/p')
    [ -z "${fail_flush:-}" ] || more=(--errors)
    start_logged file "$tmp/disk.qcow2" "$@"
    for round in 1 2; do
        powercut write "$tmp/journal" "$uri" --seed "$((seed + round))" \
            --cluster "$cluster" --flushes "$flushes" \
            --operations "$operations" "${more[@]}" ||
            fail "seed $seed: the client"
        [ -z "${fail_flush:-}" ] || break
    done
    stop_nbdkit
    [ -n "${fail_flush:-}" ] || powercut ended "$tmp/journal"
    powercut replay "$tmp/journal" "$tmp/powercut.ops" "$tmp/initial.qcow2" \
        "$tmp" --seed "$seed" --cuts "$cuts" --by-descriptor >"$tmp/summary" ||
        fail "seed $seed, ${fail_flush:+flush $fail_flush fails, }$options"
    echo "$seed: $options: $(cat "$tmp/summary")"
}
