#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The export's properties: sizes of requests, and a description.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file

# check VERSION CLUSTER-SIZE PREFERRED DESCRIPTION OPTIONS...
check ()
{
    local preferred=$1 description=$2

    shift 2
    qemu-img create -q -f "$1" "${@:2}" "$tmp/disk" 10M
    start_nbdkit --filter="$filter" file "$tmp/disk"
    "$PYTHON" - "$uri" "$preferred" "$description" <<'END'
import sys
import nbd
handle = nbd.NBD()
handle.set_full_info(True)
handle.connect_uri(sys.argv[1])
sizes = [handle.get_block_size(which)
         for which in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED,
                       nbd.SIZE_MAXIMUM)]
assert sizes == [1, int(sys.argv[2]), 0xFFFFFFFF], sizes
said = handle.get_export_description()
assert said == sys.argv[3], said
handle.shutdown()
END
    stop_nbdkit
}

check 65536 "qcow2 version 3, cluster size 65536" qcow2
check 65536 "qcow2 version 2, cluster size 65536" qcow2 -o compat=0.10
check 4096 "qcow2 version 3, cluster size 512" qcow2 -o cluster_size=512
check 2097152 "qcow2 version 3, cluster size 2097152" qcow2 -o cluster_size=2M
check 65536 "qcow2 version 3, cluster size 65536, extended L2" \
    qcow2 -o extended_l2=on
check 65536 "qcow2 version 3, cluster size 65536, zstd" \
    qcow2 -o compression_type=zstd
check 4096 "qcow version 1, cluster size 4096" qcow
