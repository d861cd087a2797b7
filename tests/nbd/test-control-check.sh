#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image is checked while clients write to it: nothing is found in one that
# is sound, just the leaks that there are in another one, and they are repaired;
# jobs are cancelled; qcow2ctl does the same.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"

client=$nbddir/control_check.py
ctl=$(realpath "$top_builddir/tools/qcow2ctl/qcow2ctl")

# make IMAGE OPTIONS: with some data.
make_image ()
{
    qemu-img create -q -f qcow2 -o "$2" "$1" 16M
    qemu-io -f qcow2 -c 'write -q -P 7 0 3M' -c 'write -q -P 8 8M 2M' "$1"
}

serve ()
{
    start_nbdkit "$@" qcow2-control="$control"
}

echo "a sound image"
for options in cluster_size=64k cluster_size=4k,lazy_refcounts=on; do
    make_image "$tmp/disk" "$options"
    serve --filter="$filter" file "$tmp/disk"
    "$PYTHON" "$client" sound "$sock" "$control" || fail "$options"
    stop_nbdkit
    qemu-img check -q "$tmp/disk" || fail "$options: qemu-img check: $?"
done

echo "leaks"
for options in cluster_size=64k cluster_size=4k; do
    make_image "$tmp/disk" "$options"
    "$PYTHON" "$client" raise "$tmp/disk" 12
    serve --filter="$filter" file "$tmp/disk"
    "$PYTHON" "$client" leaks "$sock" "$control" "$tmp/disk" 12 ||
        fail "$options"
    stop_nbdkit
    qemu-img check -q "$tmp/disk" || fail "$options: qemu-img check: $?"
done

echo "cancelled"
requires_filter delay
make_image "$tmp/disk" cluster_size=512
serve --filter="$filter" --filter=delay file "$tmp/disk" rdelay=20ms
"$PYTHON" "$client" slow "$sock" "$control" || fail "cancelled"
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check: $?"

if [ ! -x "$ctl" ] || ! "$ctl" --version | grep -q json=yes; then
    echo "without qcow2ctl"
    exit 0
fi

# run CODE ARGUMENT...: of qcow2ctl, which says $tmp/said.
run ()
{
    local code=0 want=$1

    shift
    "$ctl" -S "$control" "$@" >"$tmp/said" 2>&1 || code=$?
    [ "$code" = "$want" ] || fail "qcow2ctl $*: $code: $(cat "$tmp/said")"
}

echo "qcow2ctl"
make_image "$tmp/disk" cluster_size=4k
"$PYTHON" "$client" raise "$tmp/disk" 6
serve --filter="$filter" file "$tmp/disk"
run 2 check ""                  # flags contradict refcounts
has '^leak: the cluster at offset' "findings"
has '^6 leaked clusters were found' "leaks"
run 0 check -p -r leaks ""
has 'Repaired: .* 6 leaks' "a repair"
run 0 check --output json ""
jq -e '."check-errors" == 0 and .leaks == null' "$tmp/said" >/dev/null ||
    fail "JSON: $(cat "$tmp/said")"
run 1 check -r all ""
run 1 check --memory 1M ""
qmp query-jobs
has '"return": \[\]' "jobs are left"
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check: $?"

echo "leaks only, and a read-only image"
qemu-img create -q -f qcow2 "$tmp/disk" 16M
truncate -s 2M "$tmp/disk"
"$PYTHON" "$client" raise "$tmp/disk" 4
serve -r --filter="$filter" file "$tmp/disk"
run 3 check ""
run 1 check -r leaks ""
stop_nbdkit
serve --filter="$filter" file "$tmp/disk"
run 3 check ""
run 0 check -r leaks ""
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check: $?"

echo "interrupted"
make_image "$tmp/disk" cluster_size=512
serve --filter="$filter" --filter=delay file "$tmp/disk" rdelay=300ms
"$ctl" -S "$control" check "" >"$tmp/checked" 2>&1 &
check=$!
for _ in $(seq 100); do
    qmp query-jobs
    grep -q running "$tmp/said" && break
    sleep 0.1
done
kill -INT "$check"
wait "$check" && fail "it was not cancelled: $(cat "$tmp/checked")"
qmp query-jobs
has '"return": \[\]' "a cancelled job is left"
stop_nbdkit
