#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Random chains of images read as in QEMU, with their files local, on NBD
# servers, or mixed; and their maps are true.
#
# Environment
#   SEED=N     of the first chain
#   COUNT=N    how many
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
requires_plugin nbd

: "${SEED:=1}" "${COUNT:=10}"

# served WAY: check with nbdcopy, nbdinfo, our own client and QEMU's.
served ()
{
    local -a arguments

    mapfile -t arguments <"$chain/args-$1"
    start_nbdkit -r --filter="$filter" "${arguments[@]}"
    nbdcopy "$uri" "$tmp/copy"
    cmp "$tmp/copy" "$chain/truth.raw" || fail "$SEED: way $1: nbdcopy"
    nbdinfo --map "$uri" >"$tmp/map"
    "$PYTHON" "$nbddir/chain_check.py" "$uri" "$chain" ||
        fail "$SEED: way $1: ${arguments[*]}"
    stop_nbdkit
    rm "$tmp/copy"
}

chain=$tmp/chain
mkdir "$chain"
start_nbdkit -P layers -r file dir="$chain"
for ((; COUNT > 0; COUNT--, SEED++)); do
    "$PYTHON" "$lib/chains.py" make "$SEED" "$chain" \
        "$(export_uri NAME layers)"
    for way in 0 1 2; do
        served "$way"
    done
    rm -f "$chain"/*
done
