#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter knows the filters above and below it, for all forms of nbdkit's
# command line.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_plugin file
requires_filter log
requires_filter noextents
image=$tmp/disk.qcow2
qemu-img create -q -f qcow2 "$image" 1M
config=$("$NBDKIT" --dump-config)
filterdir=$(sed -n 's/^filterdir=//p' <<<"$config")
plugindir=$(sed -n 's/^plugindir=//p' <<<"$config")
qcow2=--filter=$filter

# found: the log's lines about it, in order.
found ()
{
    sed -n 's/^.*debug: qcow2: \(below\|above\) is the \(plugin\|filter\) /\1:/p' \
        "$log" | tr '\n' ' '
}

# knows WHAT ARGUMENT...
knows ()
{
    local what=$1 have

    shift
    start_nbdkit -v "$@"
    have=$(found)
    stop_nbdkit
    [ "$have" = "$what " ] || fail "$*: it found $have, not $what"
}

echo "by names"
knows "below:file" "$qcow2" file "$image"
knows "below:file below:noextents" "$qcow2" --filter=noextents file "$image"
knows "below:file above:noextents" --filter=noextents "$qcow2" file "$image"
knows "below:file below:noextents below:log" \
    "$qcow2" --filter=log --filter=noextents file "$image" logfile="$tmp/requests"
knows "below:file below:log above:noextents" \
    --filter=noextents "$qcow2" --filter=log file "$image" logfile="$tmp/requests"
knows "below:memory" "$qcow2" memory 1M

echo "after the plugin's name, and given twice"
knows "below:file below:noextents" file "$image" "$qcow2" --filter=noextents
knows "below:file below:noextents" "$qcow2" --filter=noextents --filter=noextents file "$image"
knows "below:file below:noextents" --filter=noextents "$qcow2" --filter=noextents file "$image"
knows "below:file above:noextents" --filter=noextents --filter=noextents "$qcow2" file "$image"

if [ -e "$filterdir/nbdkit-noextents-filter.so" ] &&
       [ -e "$plugindir/nbdkit-file-plugin.so" ]; then
    echo "by paths"
    knows "below:file below:noextents" "$qcow2" \
        --filter="$filterdir/nbdkit-noextents-filter.so" \
        "$plugindir/nbdkit-file-plugin.so" "$image"
    ln -s "$filterdir/nbdkit-noextents-filter.so" "$tmp/any-name.so"
    knows "below:file below:noextents" "$qcow2" --filter="$tmp/any-name.so" \
        "$plugindir/../plugins/nbdkit-file-plugin.so" "$image"
fi

# runs LAST ARGUMENT...: nbdkit gets these; $tmp/log is its log.
runs ()
{
    "$NBDKIT" -v -U - "$@" >"$tmp/log" 2>&1 || fail "$*: $(cat "$tmp/log")"
    log=$tmp/log
    [ "$(found)" = "below:file below:noextents " ] || fail "$*: it found $(found)"
}

if [ -z "$instrumented" ]; then
    echo "with a command, with no bytes, and with something preloaded"
    runs "$qcow2" --filter=noextents file "$image" --run 'exit 0'
    # Preloaded libraries are loaded before the plugin.
    other=$(ldd "$(command -v qemu-io)" | awk '$3 ~ /libz/ && !n++ { print $3 }')
    LD_PRELOAD=$other runs "$qcow2" --filter=noextents file "$image" --run 'exit 0'
    LD_BIND_NOW=1 runs "$qcow2" --filter=noextents file "$image" --run 'exit 0'

    echo "as a daemon"
    "$NBDKIT" -U "$tmp/d.sock" -P "$tmp/d.pid" "$qcow2" file "$image"
    wait_for test -s "$tmp/d.pid"
    kill "$(cat "$tmp/d.pid")"
    # It knew that the file plugin is alone, or it would have started.
    echo text >"$tmp/text"
    ! "$NBDKIT" -U "$tmp/e.sock" -P "$tmp/e.pid" "$qcow2" file "$tmp/text" \
        2>"$tmp/err" || fail "a daemon started with no image"
    grep -q 'not a qcow2 image' "$tmp/err" || fail "$(cat "$tmp/err")"
fi

echo "the filter itself preloaded: nothing is known, and nothing breaks"
if [ -z "$instrumented" ]; then
    LD_PRELOAD=$filter "$NBDKIT" -v -U - "$qcow2" file "$image" \
        --run 'exit 0' >"$tmp/log" 2>&1 || fail "preloaded: $(cat "$tmp/log")"
fi
