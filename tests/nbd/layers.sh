# SPDX-License-Identifier: BSD-3-Clause
# layers.sh - common functions of the tests of backing files and data files.
#
# Each test works in its own folder, $tmp/images, and makes images there by
# relative names.
# shellcheck shell=bash
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/writing.sh"

images=$tmp/images
mkdir "$images"

set_names ()
{
    "$PYTHON" "$nbddir/set_names.py" "$@"
}

# make_base NAME SIZE [SEED]: a raw file with random contents.
make_base ()
{
    make_disk "$images/$1" "$2" 65536 "${3:-1}"
}

# overlay NAME BACKING FORMAT SIZE [qemu-img create's options...]: with its own
# data at 64K and 1M.
overlay ()
{
    local name=$1 backing=$2 format=$3 size=$4

    shift 4
    (cd "$(dirname "$images/$name")" &&
         qemu-img create -q -f qcow2 -b "$backing" -F "$format" "$@" \
             "$(basename "$name")" "$size" &&
         qemu-io -f qcow2 -c 'write -q -P 0x5a 64k 4k' \
             -c 'write -q -P 0xa5 1M 70000' "$(basename "$name")")
}

# truth IMAGE: QEMU's copy of it, $tmp/truth.raw.
truth ()
{
    (cd "$(dirname "$1")" &&
         qemu-img convert -O raw "$(basename "$1")" "$tmp/truth.raw")
}

# serves PARAMETER...: a server with these serves $tmp/truth.raw, as export
# $name.
name=
serves ()
{
    start_nbdkit -P serves -v --filter="$filter" "$@"
    cp "$log" "$tmp/last.log"
    nbdtool compare "$(export_uri "$name" serves)" "$tmp/truth.raw" \
        --reads 40 >"$tmp/out" 2>&1 ||
        fail "not as QEMU reads it: $*: $(cat "$tmp/out")"
    cp "$log" "$tmp/last.log"
    stop_nbdkit serves
}

# says REGEX PARAMETER...: a server with these refuses a client at once, with a
# matching message.
says ()
{
    local regex=$1

    shift
    start_nbdkit -P says -v --filter="$filter" "$@"
    timeout "$patience" "$PYTHON" "$nbddir/nbdtool.py" fails \
        "$(export_uri "$name" says)" >/dev/null ||
        fail "was not refused, or hangs: $*"
    grep -E -q -e "error: qcow2: .*($regex)" "$log" ||
        fail "no message like '$regex': $(grep error: "$log")"
    stop_nbdkit says
}

# connect_client: connect to $uri until finish_client.
connect_client ()
{
    start_client "touch:$tmp/connected"
}
