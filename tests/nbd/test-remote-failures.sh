#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Servers that fail: only reads that need the unreadable bytes fail, and
# failures are not cached.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

requires_plugin eval
skip_if_instrumented "what is preloaded would go into the scripts, too"
for name in error retry noparallel; do
    requires_filter "$name"
done

# Every shell costs some milliseconds: slow enough.
make_real "$tmp/disk.raw" $((6 * M))
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c
make_image "$tmp/tables.qcow2" "$tmp/disk.raw" -S 0 -o cluster_size=4k
trigger=$tmp/trigger

# start_broken IMAGE START END ACTION [ARGUMENT...]: while the trigger file
# exists, reads of [START, END) first run the shell command ACTION.
start_broken ()
{
    local image=$1 start=$2 end=$3 action=$4

    shift 4
    start_nbdkit --filter="$filter" "$@" eval \
        thread_model="echo parallel" \
        get_size="stat -c %s $image" \
        pread="if [ -e $trigger ] && [ \$4 -lt $end ] &&
                   [ \$((\$3 + \$4)) -gt $start ]; then $action; fi
               exec dd if=$image iflag=skip_bytes,count_bytes skip=\$4 \
                   count=\$3 bs=65536 status=none"
}

# run CHECK NAME KIND PLACE ACTION [ARGUMENT...]
run ()
{
    local check=$1 name=$2 kind=$3 place=$4 start end

    read -r start end < <("$PYTHON" "$nbddir/remote_client.py" where \
        "$tmp/$name.qcow2" "$kind" "$place")
    shift 4
    echo "$check: $name, $kind $place, bytes $start to $end: ${*:2}"
    start_broken "$tmp/$name.qcow2" "$start" "$end" "$@"
    nbdtool size "$uri" >/dev/null
    timeout "$((patience * 3))" "$PYTHON" "$nbddir/remote_client.py" \
        "$check" "$uri" "$tmp/disk.raw" "$tmp/$name.qcow2" "$trigger" \
        "$start" "$end"
    stop_nbdkit
}

error="echo 'EIO broken' >&2; exit 1"
run broken plain data 50 "$error"
run broken packed compressed 50 "$error"
run broken packed compressed 50 "$error" --filter=noparallel
run broken tables table 1 "$error"
wait="while [ -e $trigger ]; do sleep 0.1; done"
run blocked plain data 60 "$wait"
run blocked packed compressed 60 "$wait"

echo "one read in ten fails, and is retried"
for name in plain packed; do
    start_nbdkit --filter="$filter" --filter=retry --filter=delay \
        --filter=error file "$tmp/$name.qcow2" retry-delay=1 \
        retry-exponential=no retries=20 delay-read=2ms error-pread=EIO \
        error-pread-rate=10% error-pread-file="$trigger"
    touch "$trigger"
    copy --connections=4
    rm "$trigger"
    stop_nbdkit
done
