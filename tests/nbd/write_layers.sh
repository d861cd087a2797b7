# SPDX-License-Identifier: BSD-3-Clause
# write_layers.sh - images with other files or a key: overlays and chains,
# encrypted images, images with a data file; sourced by write_images.sh.
#
# Owns      the array 'lower', files that must not change; $data, the data
#           file, if there is one; 'parameters', 'qemu_secrets' and
#           'qemu_options' of writing.sh.
# shellcheck shell=bash
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/writing.sh"

image=$tmp/disk.qcow2
raw=$tmp/disk.raw
# Not a multiple of any cluster size but 512.
disk_size=$((16 * 1024 * 1024 + 5 * 512))

lower=()
data=
data_is_disk=           # data_file_raw
# shellcheck disable=SC2034     # By who sources this.
model_options=()        # for write_model.py

# alone: the next image has no other files and no key.
alone ()
{
    rm -f "${lower[@]}" "$tmp"/lower-* ${data:+"$data"}
    lower=()
    data=
    data_is_disk=
    model_options=()
    qemu_secrets=()
    qemu_options=
    parameters=()
}

# keep FILE...: these must not change from now on.
keep ()
{
    lower+=("$@")
    sha256sum "${lower[@]}" >"$tmp/lower-sums"
}

# check_layers: backing files are unchanged and without errors, and a raw data
# file equals the disk.
check_layers ()
{
    local file

    if [ ${#lower[@]} -gt 0 ]; then
        sha256sum --quiet -c "$tmp/lower-sums" >"$tmp/check" 2>&1 ||
            fail "what is below the image has changed: $(cat "$tmp/check")"
    fi
    for file in "${lower[@]}"; do
        case $file in
        *.qcow2)
            qemu-img check -q -U "${qemu_secrets[@]}" --image-opts \
                "driver=qcow2,file.filename=$file$(options_of "$file")" \
                >"$tmp/check" 2>&1 ||
                fail "qemu-img check $file: $(cat "$tmp/check")"
        esac
    done
    if [ -n "$data_is_disk" ]; then
        # Past its end it reads as zeros.
        cp "$data" "$tmp/lower-now"
        truncate -s "$(stat -c %s "$raw")" "$tmp/lower-now"
        cmp "$tmp/lower-now" "$raw" || fail "the data file is not the disk"
    fi
}

# options_of FILE: qemu_options of a backing file: without the first "backing".
options_of ()
{
    local option

    for option in ${qemu_options//,/ }; do
        case $option in
        backing.*) echo -n ",${option#backing.}" ;;
        esac
    done
}

# ---- Overlays -------------------------------------------------------------------

# lower_disk SIZE SEED: a raw file with data, $tmp/lower-SEED.raw.
lower_disk ()
{
    make_disk "$tmp/lower-$2.raw" "$1" 65536 "$2"
}

# over FILE FORMAT OPTIONS: the image becomes an empty overlay over it, which
# qcow2-follow finds.
over ()
{
    rm -f "$image"
    qemu-img create -q -f qcow2 -b "$1" -F "$2" -o "$3" \
        "${qemu_secrets[@]}" "$image" "$disk_size"
    parameters=(qcow2-follow="$tmp")
    # A trim keeps data that version 2 cannot hide.
    # shellcheck disable=SC2034
    case $3 in
    *compat=0.10*) model_options=(--trims-may-not) ;;
    esac
}

# disk_is FILE: the expected disk, with zeros past the end of FILE.
disk_is ()
{
    cp "$1" "$raw"
    truncate -s "$disk_size" "$raw"
}

make_over_raw ()        # A base that is longer.
{
    create cluster_size=64k
    lower_disk $((disk_size + 3000000)) 1
    over "$tmp/lower-1.raw" raw "$1"
    disk_is "$tmp/lower-1.raw"
    keep "$tmp/lower-1.raw"
}

make_over_short ()      # One that is shorter, and ends anywhere.
{
    create cluster_size=64k
    lower_disk 9000123 1
    over "$tmp/lower-1.raw" raw "$1"
    disk_is "$tmp/lower-1.raw"
    keep "$tmp/lower-1.raw"
}

# over_qcow2 OPTIONS-OF-THE-BASE OPTIONS [qemu-img convert's options...]
over_qcow2 ()
{
    create cluster_size=64k
    lower_disk $((disk_size - 2560 - 1048576)) 2
    qemu-img convert -f raw -O qcow2 -o "$1" "${@:3}" "$tmp/lower-2.raw" \
        "$tmp/lower-1.qcow2"
    over "$tmp/lower-1.qcow2" qcow2 "$2"
    disk_is "$tmp/lower-2.raw"
    keep "$tmp/lower-1.qcow2"
}

make_over_plain ()
{
    over_qcow2 cluster_size=64k "$1"
}

make_over_small ()
{
    over_qcow2 cluster_size=512 "$1"
}

make_over_large ()
{
    over_qcow2 cluster_size=2M "$1"
}

make_over_compressed ()
{
    over_qcow2 cluster_size=64k "$1" -c
}

make_over_extended ()
{
    over_qcow2 cluster_size=16k,extended_l2=on "$1"
}

# chain LENGTH OPTIONS: a chain of so many files, each with its own data.
chain ()
{
    local i below=$tmp/lower-1.raw format=raw sizes=(64k 4k 2M 512 16k)

    create cluster_size=64k
    lower_disk 12345678 1
    disk_is "$below"
    keep "$below"
    for ((i = 2; i < $1; i++)); do
        over "$below" "$format" "cluster_size=${sizes[i % 5]}"
        with_qemu "write -q -P $i $((i * 1000000)) 1500000" \
            "write -q -z $((15000000 - i * 1000000)) 300k"
        below=$tmp/lower-$i.qcow2 format=qcow2
        mv "$image" "$below"
        keep "$below"
    done
    over "$below" "$format" "$2"
}

make_chain3 ()
{
    chain 3 "$1"
}

make_chain8 ()
{
    chain 8 "$1"
}

# An overlay with a snapshot, in which parts of the backing image show.
make_over_snapshot ()
{
    make_over_compressed "$1"
    with_qemu "write -q -P 17 1M 2M" "write -q -z 4M 1M"
    qemu-img snapshot -c one "$image"
    with_qemu "write -q -P 18 2M 64k" "write -q -P 19 9M 700k"
    qemu-img convert -f qcow2 -O raw -l one "$image" "$tmp/kept-one"
}

# ---- Encryption -----------------------------------------------------------------

# secret NAME PASSPHRASE
secret ()
{
    qemu_secrets+=(--object "secret,id=$1,data=$2")
}

# luks FILE OPTIONS: sets 'passphrase'.
luks ()
{
    passphrase=$("$PYTHON" "$lib/luks.py" "$1" "$disk_size" "$2")
}

# content: write data to an empty image.
content ()
{
    [ -z "${no_content:-}" ] || return 0
    with_qemu "write -q -P 17 1M 2M" "write -q -z 2M 100k" \
        "write -q -P 18 9M 777"
}

make_luks ()
{
    create cluster_size=64k
    luks "$image" "$1"
    secret top "$passphrase"
    qemu_options=,encrypt.key-secret=top
    parameters=(qcow2-passphrase="$passphrase")
    content
}

make_aes ()
{
    create cluster_size=64k
    secret top "old secret"
    qemu_options=,encrypt.key-secret=top
    parameters=(qcow2-passphrase="old secret")
    qemu-img create -q -f qcow2 "${qemu_secrets[@]}" \
        -o "encrypt.format=aes,encrypt.key-secret=top,$1" "$image" \
        "$disk_size" 2>"$tmp/deprecated"
    content
    # shellcheck disable=SC2034     # By who sources this.
    model_options=(--torn)
}

# luks_over FILE FORMAT OPTIONS: the image becomes an empty encrypted overlay.
luks_over ()
{
    luks "$image" "$3"
    qemu_secrets=()
    secret top "$passphrase"
    qemu-img rebase -u -q "${qemu_secrets[@]}" --image-opts -b "$1" -F "$2" \
        "driver=qcow2,encrypt.key-secret=top,file.filename=$image"
    parameters=(qcow2-follow="$tmp" qcow2-passphrase="$passphrase")
}

make_luks_over_luks ()
{
    local base=$tmp/lower-1.qcow2 other

    make_luks cluster_size=4k
    mv "$image" "$base"
    other=$passphrase
    luks_over "$base" qcow2 "$1"
    [ "$other" != "$passphrase" ] || broken "one passphrase for both"
    secret base "$other"
    qemu_options=,encrypt.key-secret=top,backing.encrypt.key-secret=base
    parameters+=(qcow2-passphrase="$other")
    keep "$base"
}

# Encrypted, over a backing image that is not.
make_luks_over_raw ()
{
    create cluster_size=64k
    lower_disk 9000123 1
    luks_over "$tmp/lower-1.raw" raw "$1"
    qemu_options=,encrypt.key-secret=top
    disk_is "$tmp/lower-1.raw"
    keep "$tmp/lower-1.raw"
}

# ---- Data files -----------------------------------------------------------------

# data_file RAW OPTIONS
data_file ()
{
    create cluster_size=64k
    data=$tmp/lower-data
    [ "$1" = off ] || data_is_disk=1
    rm "$image"
    qemu-img create -q -f qcow2 \
        -o "data_file=$data,data_file_raw=$1,$2" "$image" "$disk_size"
    content
    parameters=(qcow2-data-file="$data")
}

make_data ()
{
    data_file off "$1"
}

make_data_raw ()
{
    data_file on "$1"
}

# A data file that is shorter than the disk.
make_data_short ()
{
    data_file on "$1"
    truncate -s 10M "$data"
}

# ---- Places of other files --------------------------------------------------------

# serve_remote [ARGUMENT...]: backing files are on an NBD server, which gets
# these arguments; nothing is followed.
serve_remote ()
{
    local -a local_parameters=("${parameters[@]}") parameters=()
    local parameter i

    start_nbdkit -P lower -r file dir="$tmp" "$@"
    for parameter in "${local_parameters[@]}"; do
        [[ $parameter == qcow2-follow=* ]] || parameters+=("$parameter")
    done
    for ((i = ${#lower[@]} - 1; i >= 0; i--)); do
        parameters+=(qcow2-backing="$(
            export_uri "$(basename "${lower[i]}")" lower)")
    done
    serve_file
}

# serve_remote_data [ARGUMENT...]: the same for a data file, which then cannot
# grow.
serve_remote_data ()
{
    local -a parameters

    [ "$(stat -c %s "$data")" -ge "$disk_size" ] ||
        truncate -s "$disk_size" "$data"
    start_nbdkit -P lower file "$data" "$@"
    parameters=(qcow2-data-file="$uri")
    serve_file
}
