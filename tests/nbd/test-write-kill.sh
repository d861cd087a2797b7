#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Ends of all kinds.  Flushed writes survive all of them; acknowledged ones all
# but a kill of the server, and even that if clients have been idle for some
# seconds.  QEMU finds at most leaked clusters.
#
# Environment
#   ROUNDS=N     how often the server is killed
#   ALL=1        more kinds of images
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

: "${ROUNDS:=4}" "${ALL:=}"
state=$tmp/state
disk_size=$((32 * 1024 * 1024))
# shellcheck disable=SC2034     # Disks begin as zeros.
no_content=1

write_kill ()
{
    "$PYTHON" "$nbddir/write_kill.py" "$1" "$state" "$uri" "${@:2}"
}

# The disk has zeros, except that of an overlay, whose contents are known.
new_layout ()           # LAYOUT OPTIONS
{
    local base=$tmp/lower-1.qcow2

    create cluster_size=64k
    case $1 in
    "") create "$2" ;;
    over*)
        serve_image
        write_kill write --operations 300
        stop_nbdkit
        mv "$image" "$base"
        if [ "$1" = over ]; then
            over "$base" qcow2 "$2"
        else
            luks_over "$base" qcow2 "$2"
            qemu_options=,encrypt.key-secret=top
        fi
        keep "$base" ;;
    *) "make_$1" "$2" ;;
    esac
}

new ()                  # [LAYOUT:]OPTIONS
{
    local layout=

    rm -f "$state"
    options=$1
    [ "${1/:/}" = "$1" ] || layout=${1%%:*}
    new_layout "$layout" "${1#*:}"
    cluster=$((64 * 1024))
    [ "${1/cluster_size=4k/}" = "$1" ] || cluster=4096
    # Room for the disk, its tables, and little more.
    room=34M
    if [ "${1/cluster_size=2M/}" != "$1" ]; then
        cluster=$((2 * 1024 * 1024))    # a smaller trim does nothing
        room=44M
    fi
    case " ${model_options[*]} " in
    *" --trims-may-not "*) trims=(--trims-may-not) ;;
    *) trims=() ;;
    esac
}

serve_image ()
{
    start_nbdkit --filter="$filter" file "$image" "${parameters[@]}" "$@"
}

# clean: no leak, no error, and the dirty bit is not set.
clean ()
{
    local -a opened

    in_qemu "$image"
    qemu-img check -q "${opened[@]}" || fail "$options: not clean: $1"
    all_layers
    ! qemu-img info "$image" | grep -q 'dirty flag: true' ||
        fail "$options: dirty: $1"
}

# all_layers: check the other files, with any contents of the disk.
all_layers ()
{
    local -a opened

    if [ -n "$data_is_disk" ]; then
        in_qemu "$image"
        qemu-img convert "${opened[@]}" -O raw "$raw"
    fi
    check_layers
}

# at_most_leaks: check a repaired copy, since our own repair is still to come.
at_most_leaks ()
{
    local status=0
    local -a opened

    all_layers
    cp "$image" "$tmp/copy"
    in_qemu "$tmp/copy"
    if qemu-img info --output=json "$image" | grep -q '"dirty-flag": true'; then
        qemu-img check -r all "${opened[@]}" >"$tmp/check" 2>&1 ||
            fail "$options: cannot be repaired: $1"
        return 0
    fi
    qemu-img check "${opened[@]}" >"$tmp/check" 2>&1 || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
        fail "$options: qemu-img check: $status: $1: $(tail "$tmp/check")"
}

# In the background, until it has made some progress.
start_writing ()
{
    local i

    rm -f "$tmp/ready"
    write_kill write --cluster "$cluster" "${trims[@]}" --ready "$tmp/ready" \
        "$@" >"$tmp/client.log" 2>&1 &
    client=$!
    for ((i = 0; i < patience * 100; i++)); do
        [ ! -e "$tmp/ready" ] || return 0
        sleep 0.01
    done
    fail "$options: the client makes no progress"
}

end_of_client ()        # STATUS
{
    local status=0

    wait "$client" || status=$?
    client=
    [ "$status" -eq "$1" ] || fail "$options: the client's status is $status"
}

kill_server ()
{
    kill -KILL "$pid"
    if stop_nbdkit 2>/dev/null; then
        fail "the server was not killed"
    fi
}

# read_back [--all]: through a read-only server.
read_back ()
{
    serve_image -r
    write_kill check "$@" || fail "$options: something is lost"
    stop_nbdkit
}

kinds=(cluster_size=64k "cluster_size=4k,lazy_refcounts=on")
[ -z "$ALL" ] ||
    kinds+=("cluster_size=64k,extended_l2=on" "compat=0.10,cluster_size=4k"
        "cluster_size=512" "cluster_size=2M")

# killed ROUND: in the first half there is hardly any space, so freed space
# must be reused, and few commits are for flushes; then the file grows.
killed ()
{
    local -a how=() opened
    local flushes=0.03

    if [ "$1" -le $((ROUNDS / 2)) ]; then
        flushes=0.004
        in_qemu "$image"
        qemu-img check -r all "${opened[@]}" >"$tmp/check" 2>&1 ||
            fail "$options: cannot be repaired"
        truncate -s "$room" "$image"
        how=(qcow2-grow=off)
    fi
    serve_image "${how[@]}"
    start_writing --seed "$1" --operations 100000 \
        --flushes "$flushes"
    sleep "0.$((RANDOM % 30 + 10))"
    kill_server
    end_of_client 0
    at_most_leaks "killed, round $1"
    read_back
}

layered=(over:cluster_size=4k over_luks:cluster_size=64k data_raw:cluster_size=64k)
[ -z "$ALL" ] ||
    layered+=("over:cluster_size=64k,extended_l2=on,lazy_refcounts=on"
        over:compat=0.10 luks:cluster_size=4k aes:cluster_size=64k
        "data:cluster_size=64k,extended_l2=on")

echo "killed -9 in the middle, again and again"
for kind in "${kinds[@]}" "${layered[@]}"; do
    echo "$kind"
    new "$kind"
    step=1
    [ "${kind/:/}" = "$kind" ] || step=2
    for ((round = 1; round <= ROUNDS; round += step)); do
        killed "$round"
    done
    # QEMU finds no more errors, and in the end there are none.
    serve_image
    write_kill write --cluster "$cluster" "${trims[@]}" --operations 200
    stop_nbdkit
    in_qemu "$image"
    qemu-img check -r leaks "${opened[@]}" >"$tmp/check" 2>&1 ||
        fail "$options: errors in the end"
    read_back --all
done

echo "the client is killed, or leaves without a flush"
for kind in "${kinds[@]}"; do
    new "$kind"
    serve_image
    for end in leave die leave; do
        start_writing --operations 300 --no-flush --end "$end"
        end_of_client "$([ $end = leave ] && echo 0 || echo 137)"
    done
    stop_nbdkit
    clean "the client was killed"
    read_back --all
done

echo "SIGTERM while clients are busy"
# nbdkit does not close the handles of connections that a signal ends.
find_leaks=0
for kind in "${kinds[@]}" "${layered[@]}"; do
    new "$kind"
    serve_image
    start_writing --operations 100000
    stop_nbdkit || fail "$options: busy clients, SIGTERM"
    end_of_client 0
    at_most_leaks "busy clients"
    read_back
done
find_leaks=1

echo "idle clients: all is there after a while, even if the server is killed"
new cluster_size=64k
serve_image
start_writing --operations 300 --no-flush --end wait
start_nbdkit -P reader -r --filter="$filter" file "$image" qcow2-lock=off
for ((i = 0; i < 15; i++)); do
    sleep 1
    if write_kill check --all >"$tmp/reader.out" 2>&1 &&
            qemu-img check -U "$image" >"$tmp/reader.out" 2>&1; then
        break
    fi
done
[ "$i" -lt 15 ] || fail "not committed: $(cat "$tmp/reader.out")"
[ "$i" -gt 1 ] || fail "it is there at once, so this proves nothing"
stop_nbdkit reader
pid=${server_pid[nbdkit]}
kill_server
end_of_client 0
clean "idle"
read_back --all
