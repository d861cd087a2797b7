#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The host is reopened and loses unflushed writes: no flush may succeed after
# that.  With the retry filter, which reopens silently, nothing is written
# unless a parameter allows it.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

requires_plugin nbd
requires_filter retry
image=$tmp/disk.qcow2
above=()

serve_below ()
{
    start_nbdkit -P below file "$image"
}

# A power cut of the server's machine, and a restart.
power_cut_below ()
{
    pid=${server_pid[below]}
    kill_nbdkit
    cp "$tmp/durable.qcow2" "$image"
    serve_below
}

# start_server ARGUMENT...: with a server whose image file has room.
start_server ()
{
    new_image 64M
    truncate -s 80M "$image"
    cp "$image" "$tmp/durable.qcow2"
    serve_below
    start_nbdkit "${above[@]}" --filter="$filter" "$@"
    name=
    [[ $* != *dynamic-export* ]] || name=name
    uri=$(export_uri "$name")
}

wait_for_client ()
{
    wait_for test -e "$tmp/client-ready"
}

# lost ARGUMENT...: neither the client that wrote nor a later one is told that
# the writes are durable.
lost ()
{
    local who

    for who in writer other; do
        start_server "$@"
        rm -f "$tmp"/client-*
        # A lost connection may also give another error.
        writetool "$uri" w:0:1M:7 "touch:$tmp/client-ready" \
            "wait:$tmp/client-go" f >"$tmp/writer" 2>&1 &
        client=$!
        wait_for_client
        power_cut_below
        uri=$(export_uri "$name")
        if [ "$who" = other ]; then
            ! writetool "$uri" f >"$tmp/other" 2>&1 ||
                fail "$*: another client's flush has succeeded"
        fi
        touch "$tmp/client-go"
        if wait "$client"; then
            fail "$*: a flush of what is lost has succeeded"
        fi
        client=
        # The next clients are served normally.
        wait_for writetool "$uri" w:0:1M:8 f
        nbdtool read "$uri" 0 512 | cmp - <(head -c 512 /dev/zero |
            tr '\0' '\10') || fail "$*: not served any more"
        stop_nbdkit
        stop_nbdkit below
        qemu-img check -q "$image" || fail "not clean"
    done
}

echo "the nbd plugin, one way for all"
lost nbd socket="$tmp/below.sock" retry=5
if "$NBDKIT" --help nbd | grep -q dynamic-export; then
    echo "the nbd plugin, where names mean something"
    lost nbd socket="$tmp/below.sock" dynamic-export=true
    for model in requests all-requests; do
        "$NBDKIT" --dump-plugin --filter=noparallel null >/dev/null 2>&1 ||
            break
        echo "the same, serializing $model"
        lost --filter=noparallel nbd socket="$tmp/below.sock" \
            dynamic-export=true serialize="$model"
    done
fi

# refuses_to_write REGEX ARGUMENT...
refuses_to_write ()
{
    start_server "${@:2}"
    check_read_only
    stop_nbdkit
    has_logged "is served read-only: .*$1"
    stop_nbdkit below
    cmp "$image" "$tmp/durable.qcow2" || fail "${*:2}: it was written to"
}

# writes ARGUMENT...
writes ()
{
    start_server "$@"
    writetool "$uri" --raw "$tmp/disk.raw" w:0:1M:1 f
    stop_nbdkit
    has_not_logged 'read-only'
    stop_nbdkit below
    check_image
}

nbd=(nbd "socket=$tmp/below.sock")
echo "the retry filter"
refuses_to_write 'retry.*qcow2-allow-retry' --filter=retry "${nbd[@]}"
refuses_to_write 'retry.*qcow2-allow-retry' "${nbd[@]}" --filter retry
refuses_to_write 'retry.*qcow2-allow-retry' --filt=retry "${nbd[@]}"
requires_filter log
refuses_to_write 'retry' --filter=log --filter=retry "${nbd[@]}" \
    logfile="$tmp/requests"
filterdir=$("$NBDKIT" --dump-config | sed -n 's/^filterdir=//p')
if [ -e "$filterdir/nbdkit-retry-filter.so" ]; then
    refuses_to_write 'retry' \
        --filter="$filterdir/nbdkit-retry-filter.so" "${nbd[@]}"
fi
writes --filter=retry "${nbd[@]}" qcow2-allow-retry=on
above=(--filter=retry)
refuses_to_write 'retry.*qcow2-allow-retry' "${nbd[@]}"
writes "${nbd[@]}" qcow2-allow-retry=on
above=()
writes --filter=log "${nbd[@]}" logfile="$tmp/--filter=retry"
if "$NBDKIT" --dump-plugin --filter=retry-request null >/dev/null 2>&1; then
    refuses_to_write 'retry-request' --filter=retry-request "${nbd[@]}"
    writes --filter=retry-request "${nbd[@]}" qcow2-allow-retry=on
fi
refused 'qcow2-allow-retry must be off or on' --filter="$filter" null \
    qcow2-allow-retry=perhaps
