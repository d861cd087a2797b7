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

echo "jobs of others, and cancelling them"
make_image "$tmp/disk" cluster_size=512
serve --filter="$filter" --filter=delay file "$tmp/disk" rdelay=20ms
run 0 jobs
[ ! -s "$tmp/said" ] || fail "there is no job: $(cat "$tmp/said")"
"$PYTHON" "$client" begin "$control" mine
run 0 jobs
has '^mine  *x-q2-check  *[a-z]*  *[0-9]*%$' "a job that runs"
run 0 jobs --output json
jq -e '.[0] | .id == "mine" and ."total-progress" == 100' "$tmp/said" \
    >/dev/null || fail "JSON: $(cat "$tmp/said")"
run 5 cancel other
has 'Job not found' "no such job"
run 0 cancel mine
[ ! -s "$tmp/said" ] || fail "cancel prints"
for (( i = 0; i < 300; i++ )); do
    run 0 jobs
    ! grep -q concluded "$tmp/said" || break
    sleep 0.1
done
has '^mine .* concluded  *[0-9]*% .*cancelled' "a job that was cancelled"
run 1 cancel mine
has 'cannot accept' "one that has concluded"
stop_nbdkit

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

echo "bad sectors"
requires_plugin eval
make_image "$tmp/disk" cluster_size=4k
truncate -s 32M "$tmp/disk"
number ()
{
    echo $((0x$(od -An -tx1 -j"$1" -N"$2" "$tmp/disk" | tr -d ' \n')))
}
# The plugin's programs are not ours, so no sanitizer looks at them.
SANITIZER=no start_nbdkit -P below eval \
    get_size="stat -c %s '$tmp/disk'" can_write='exit 0' can_flush='exit 0' \
    pread="read first end < '$tmp/bad.range'
           if [ \$((\$4)) -lt \$end ] && [ \$((\$4 + \$3)) -gt \$first ]
           then echo EIO bad sector >&2; exit 1
           fi
           dd if='$tmp/disk' skip=\$4 count=\$3 iflag=count_bytes,skip_bytes" \
    pwrite="dd of='$tmp/disk' conv=notrunc seek=\$4 oflag=seek_bytes" \
    flush='exit 0'
echo 0 0 > "$tmp/bad.range"
serve --filter="$filter" nbd socket="$tmp/below.sock"
run 0 check ""                  # the image is open
block=$(number $(($(number 48 8))) 8)
table=$(($(number $(($(number 40 8))) 8) & 0xfffffffffe00))
for repair in "" "-r leaks"; do
    echo "$block" $((block + 512)) > "$tmp/bad.range"
    # shellcheck disable=SC2086     # Two words, or none.
    run 1 check $repair ""
    has "^error: the refcount block at offset $(printf '0x%x' "$block")," block
    has '^1 parts of the image could not be checked' "one block"
    has '^The refcounts cannot be used. .* not being served' "a remedy"
    # shellcheck disable=SC2086
    run 1 check $repair --output json ""
    jq -e '."check-errors" == 1 and (."nbdkit-qcow2" | ."refcounts-unusable"
           and (.incomplete | not))' "$tmp/said" >/dev/null ||
        fail "JSON: $(cat "$tmp/said")"
    echo "$table" $((table + 512)) > "$tmp/bad.range"
    # shellcheck disable=SC2086
    run 1 check $repair ""
    has "^error: .*L2 table at offset $(printf '0x%x' "$table") " table
    has '^Not all references could be found' "a table that cannot be read"
done
stop_nbdkit
stop_nbdkit below
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
