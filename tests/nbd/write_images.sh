# SPDX-License-Identifier: BSD-3-Clause
# write_images.sh - images of all kinds and plugins of all kinds, for tests in
# which write_model.py writes, then QEMU, then write_model.py again; sourced.
#
# Owns      $image, and $raw, the expected disk.
# shellcheck shell=bash
# shellcheck source=write_layers.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/write_layers.sh"

# ---- Images --------------------------------------------------------------

create ()               # OPTIONS
{
    rm -rf "$image" "$raw" "$tmp"/kept*
    alone
    qemu-img create -q -f qcow2 -o "$1" "$image" "$disk_size"
    truncate -s "$disk_size" "$raw"
}

make_empty ()
{
    create "$1"
}

copy_disk ()            # OPTIONS [qemu-img convert's options...]
{
    create "$1"
    [ -e "$tmp/pattern" ] || make_disk "$tmp/pattern" "$disk_size"
    cp "$tmp/pattern" "$raw"
    qemu-img convert -f raw -O qcow2 -o "$1" "${@:2}" "$raw" "$image"
}

make_full ()
{
    copy_disk "$1"
}

make_compressed ()
{
    copy_disk "$1" -c
}

make_half_compressed ()
{
    copy_disk "$1" -c
    with_qemu "write -q -P 7 0 1M" "write -q -P 8 5000000 100k"
}

# Two, with the disk written to before, between and after.
make_snapshots ()
{
    copy_disk "$1"
    qemu-img snapshot -c one "$image"
    with_qemu "write -q -P 17 1M 2M" "write -q -z 4M 1M"
    qemu-img snapshot -c two "$image"
    with_qemu "write -q -P 18 2M 64k" "write -q -P 19 9M 700k"
    for name in one two; do
        qemu-img convert -f qcow2 -O raw -l "$name" "$image" "$tmp/kept-$name"
    done
}

# The state of a virtual machine lies after the disk.
make_vmstate ()
{
    make_full "$1"
    qemu-io -f qcow2 -c 'write -q -b -P 90 0 3M' "$image"
    touch "$tmp/kept-vmstate"
}

make_bitmaps ()
{
    make_full "$1"
    qemu-img bitmap -f qcow2 --add "$image" kept
    qemu-img bitmap -f qcow2 --add -g 64k "$image" other
    with_qemu "write -q -P 20 3M 100k"
    qemu-img bitmap -f qcow2 --disable "$image" other
    with_qemu "write -q -P 21 5M 100k"
    touch "$tmp/kept-bitmaps"
}

with_qemu ()
{
    local -a commands=() opened
    local command

    for command; do
        commands+=(-c "$command")
    done
    in_qemu "$image"
    qemu-io "${opened[@]}" "${commands[@]}"
    qemu-io -f raw "${commands[@]}" "$raw"
}

# info EXPRESSION: of qemu-img's description.
info ()
{
    qemu-img info --output=json "$image" | "$PYTHON" -c "
import json
import sys
info = json.load(sys.stdin)
data = info['format-specific']['data']
print($1)"
}

# Their names and flags.
bitmaps ()
{
    info "sorted((b['name'], *sorted(b['flags']))
        for b in data.get('bitmaps', []))"
}

check_kept ()
{
    local name

    check_image
    check_layers
    [ "$(info "info.get('dirty-flag'), data.get('corrupt', False)")" = "False False" ] ||
        fail "marked as dirty or corrupt"
    for name in one two; do
        [ -e "$tmp/kept-$name" ] || continue
        qemu-img convert -f qcow2 -O raw -l "$name" "$image" "$tmp/now"
        cmp "$tmp/now" "$tmp/kept-$name" || fail "snapshot $name has changed"
    done
    if [ -e "$tmp/kept-vmstate" ]; then
        qemu-io -f qcow2 -c 'read -q -b -P 90 0 3M' "$image" >"$tmp/now" 2>&1
        [ ! -s "$tmp/now" ] || fail "the state of the virtual machine has changed"
    fi
    if [ -e "$tmp/kept-bitmaps" ]; then
        [ "$(bitmaps)" = "$1" ] || fail "bitmaps: $(bitmaps), not $1"
    fi
}

# ---- Plugins -------------------------------------------------------------
# Each starts a server for the image and sets 'uris', and 'more', options for
# write_model.py.

serve_file ()
{
    start_nbdkit --filter="$filter" file "$image" "${parameters[@]}"
    uris=("$uri")
}

# Files that do not grow.
make_room ()
{
    truncate -s "$(($(stat -c %s "$image") + $1))" "$image"
}

serve_dir ()
{
    mkdir -p "$tmp/images"
    make_room $((48 * 1024 * 1024))
    ln -f "$image" "$tmp/images/a"
    ln -f "$image" "$tmp/images/b"
    start_nbdkit --filter="$filter" file dir="$tmp/images" \
        "${parameters[@]}"
    uris=("$(export_uri a)" "$(export_uri b)")
}

serve_nbd ()
{
    make_room $((48 * 1024 * 1024))
    start_nbdkit -P memory memory "$(stat -c %s "$image")"
    nbdcopy "$image" "$uri"
    start_nbdkit --filter="$filter" nbd socket="$tmp/memory.sock" \
        "${parameters[@]}"
    uris=("$uri")
}

# At random there may be enough room; then perhaps=(--or-not).
perhaps=()
serve_full ()
{
    make_room $((3 * 512 * 1024))
    start_nbdkit --filter="$filter" file "$image" qcow2-grow=off \
        "${parameters[@]}"
    uris=("$uri")
    more=(--full "${perhaps[@]}")
}

# serve_below FILTER[,PARAMETER...]
serve_below ()
{
    make_room $((48 * 1024 * 1024))
    # shellcheck disable=SC2046         # Split on purpose.
    start_nbdkit --filter="$filter" --filter="${1%%,*}" file "$image" \
        "${parameters[@]}" $(tr ',' '\n' <<<"$1" | tail -n +2)
    uris=("$uri")
}

serve_noparallel ()
{
    serve_below noparallel,serialize=requests
}

serve_retry ()
{
    serve_below retry,qcow2-allow-retry=on
}

# Writes of partial blocks fail.
serve_blocks ()
{
    serve_below blocksize-policy,blocksize-minimum=4096,blocksize-error-policy=error
}

serve_cache ()
{
    serve_below cache
}

stop_all ()
{
    stop_nbdkit
    if [ -n "${server_pid[memory]:-}" ]; then
        nbdcopy "nbd+unix:///?socket=$tmp/memory.sock" "$image"
        stop_nbdkit memory
    fi
    [ -z "${server_pid[lower]:-}" ] || stop_nbdkit lower
    rm -rf "$tmp/images"
}

# ---- One of them -----------------------------------------------------------

# Reading changes nothing, not even a flag.
only_read ()
{
    local before now

    before=$(sha256sum <"$image")
    serve_file
    nbdtool compare "$uri" "$raw" --reads 20
    writetool "$uri" f
    stop_nbdkit
    now=$(sha256sum <"$image")
    [ "$before" = "$now" ] || fail "reading has changed the image"
}

# write_at_random SEED OPERATIONS PLUGIN: we write, then QEMU, then we.
write_at_random ()
{
    local seed=$1 operations=$2 plugin=$3 round cluster flags
    local -a uris more

    cluster=$(info "info['cluster-size']")
    # Enabled ones are kept up.
    flags=$(bitmaps)
    RANDOM=$((seed % 32768))
    for round in 1 2; do
        more=()
        "serve_$plugin"
        "$PYTHON" "$nbddir/write_model.py" "$raw" "${uris[@]}" \
            --seed "$((seed * 2 + round))" --operations "$operations" \
            --cluster "$cluster" "${more[@]}" "${model_options[@]}"
        stop_all
        check_kept "$flags"
        [ "$round" -eq 1 ] || break
        with_qemu "write -q -P 1 $((RANDOM * 500)) 70000" \
            "write -q -z -u $((RANDOM * 500)) 100k" \
            "write -q -P 2 $((RANDOM * 500)) 1234" \
            "write -q -z $((RANDOM * 500)) 99k" \
            "write -q -P 3 $((RANDOM * 400)) 2M"
        check_kept "$flags"
    done
}
