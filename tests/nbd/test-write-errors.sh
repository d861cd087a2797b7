#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Writes of the host fail at random: some of the clients' fail, and no more;
# afterwards all requests succeed again.  After a failed flush all fail.
#
# Environment
#   SEED=N, COUNT=N    of the first stream of requests, and how many
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

requires_filter error
requires_plugin eval
requires_plugin nbd
: "${SEED:=1}" "${COUNT:=1}"
uris=()

model ()
{
    "$PYTHON" "$nbddir/write_model.py" "$raw" "${uris[0]:-$uri}" \
        --cluster "$(qemu-img info -U --output=json "$image" |
            sed -n 's/.*"cluster-size": \([0-9]*\),*/\1/p')" "$@"
}

# at_worst_leaks: check the image after all clients have left.
at_worst_leaks ()
{
    local status=0
    local -a opened

    in_qemu "$image"
    qemu-img check "${opened[@]}" >"$tmp/check" 2>&1 || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
        fail "$*: qemu-img check: $status: $(tail "$tmp/check")"
    qemu-img compare -q "${opened[@]}" "driver=raw,file.filename=$raw" ||
        fail "$*: it does not hold what was written"
    check_layers
}

# errors KIND OPTIONS WHAT...: WHAT are parameters of the error filter.
errors ()
{
    serve_errors ()
    {
        # Room for both, and data that stays.
        make_room $((48 * 1024 * 1024))
        start_nbdkit --filter="$filter" --filter=error file "$image" \
            "${parameters[@]}" "$@"
    }
    with_errors "$@"
}

# errors_below KIND OPTIONS WHAT...: the same for errors of the backing file,
# which is on an NBD server.
errors_below ()
{
    serve_errors ()
    {
        if [ -n "$data" ]; then
            serve_remote_data --filter=error "$@"
        else
            serve_remote --filter=error "$@"
        fi
    }
    with_errors "$@"
}

with_errors ()
{
    local what

    echo "$SEED: $*"
    "make_$1" "$2"
    serve_errors error-file="$tmp/on" "${@:3}"
    writetool "$uri" "touch:$tmp/client-ready" "wait:$tmp/client-go" &
    client=$!
    model --seed "$SEED" --operations 100
    for what in first again; do
        touch "$tmp/on"
        model --seed "$((SEED + 1))" --operations 400 --errors \
            --remove "$tmp/on" || fail "$*: $what"
        writetool "$uri" f || fail "$*: a flush fails when all is well again"
    done
    # Errors until the end.
    model --seed "$((SEED + 2))" --operations 150 || fail "$*: afterwards"
    touch "$tmp/client-go"
    wait "$client"
    client=
    rm -f "$tmp"/client-*
    stop_all
    at_worst_leaks "$@"
    serve_file
    model --seed "$((SEED + 3))" --operations 100 || fail "$*: new server"
    stop_nbdkit
    at_worst_leaks "$@"
    with_qemu "write -q -P 3 1M 2M"
    at_worst_leaks "$*, QEMU"
    SEED=$((SEED + 4))
}

writes=(error-pwrite=EIO error-pwrite-rate=4%)
zeroes=(error-zero=EIO error-zero-rate=20% error-trim=EIO error-trim-rate=20%)
reads=(error-pread=EIO error-pread-rate=6%)
# Less and less of a backing image is read.
base_reads=(error-pread=EIO error-pread-rate=50%)
for ((; COUNT > 0; COUNT--)); do
    errors empty cluster_size=64k "${writes[@]}"
    errors full cluster_size=4k "${writes[@]}" "${zeroes[@]}" "${reads[@]}"
    errors snapshots cluster_size=16k,extended_l2=on,lazy_refcounts=on \
        "${writes[@]}"
    errors half_compressed cluster_size=64k "${reads[@]}" "${zeroes[@]}"
    errors over_compressed cluster_size=64k,extended_l2=on "${writes[@]}" \
        "${zeroes[@]}"
    errors luks cluster_size=4k "${writes[@]}" "${reads[@]}"
    errors_below over_extended cluster_size=64k "${base_reads[@]}"
    errors_below chain3 cluster_size=4k "${base_reads[@]}"
    errors_below data cluster_size=64k "${writes[@]}" "${reads[@]}" \
        "${zeroes[@]}"
    errors_below data_raw cluster_size=64k "${writes[@]}" "${zeroes[@]}"
done

[ -z "$instrumented" ] || exit 0     # It would be preloaded into the scripts, too.
echo "a flush that fails: nothing more is written until all have left"
make_empty cluster_size=64k
truncate -s 16M "$image"
start_nbdkit -P below eval \
    get_size="stat -c %s '$image'" can_write='exit 0' can_flush='exit 0' \
    pread="dd if='$image' skip=\$4 count=\$3 iflag=count_bytes,skip_bytes" \
    pwrite="dd of='$image' conv=notrunc seek=\$4 oflag=seek_bytes" \
    flush="[ ! -e '$tmp/failing' ] || { echo EIO failed >&2; exit 1; }"
start_nbdkit --filter="$filter" nbd socket="$tmp/below.sock"
writetool "$uri" --raw "$raw" w:0:1M:1 f
writetool "$uri" "touch:$tmp/client-ready" "wait:$tmp/client-go" &
client=$!
touch "$tmp/failing"
writetool "$uri" w:2M:64k:2 "!EIO:f" || fail "a failed flush"
rm "$tmp/failing"
writetool "$uri" "!EIO:f" "!EIO:w:0:64k:3" "!EIO:w:4M:64k:3" "!EIO:z:0:1M" \
    "!EIO:fua:w:1M:512:3" || fail "a failed flush was forgotten"
nbdtool read "$uri" 0 1048576 | cmp -n 1048576 - "$raw" ||
    fail "reads do not go on"
touch "$tmp/client-go"
wait "$client" || true
client=
for ((i = 0; i < patience * 20; i++)); do
    ! writetool "$uri" --raw "$raw" w:3M:64k:4 f 2>"$tmp/error" || break
    sleep 0.05
done
[ "$i" -lt $((patience * 20)) ] ||
    fail "does not go on after all have left: $(cat "$tmp/error")"
stop_nbdkit
stop_nbdkit below
# Unflushed writes may be there or not.
status=0
qemu-img check -q "$image" >"$tmp/check" 2>&1 || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
    fail "qemu-img check: $status after a failed flush"
qemu-io -f qcow2 -c 'read -q -P 1 0 1M' -c 'read -q -P 4 3M 64k' "$image" \
    >"$tmp/out"
[ ! -s "$tmp/out" ] || fail "what was flushed is lost: $(cat "$tmp/out")"
