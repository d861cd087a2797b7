#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A chain of 64 backing files is served, one of 65 is not, from any start in
# the chain, and even if a part of it is open already.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
make_base 0 300000
for ((i = 1; i <= 70; i++)); do
    qemu-img create -q -f qcow2 -u -b $((i - 1)) \
        -F "$([ $i = 1 ] && echo raw || echo qcow2)" $i 300032
done
truth 64
cmp -n 300000 0 "$tmp/truth.raw"

echo "64, and 65"
name=64
serves file dir=. qcow2-follow=.
serves -r file dir=. qcow2-follow=.
too_many='more than 64 backing files below each other'
name=65
says "$too_many" file dir=. qcow2-follow=.
name=70
says "$too_many" file dir=. qcow2-follow=.
name=

echo "what is open already counts"
start_nbdkit -r -v --filter="$filter" file dir=. qcow2-follow=.
"$PYTHON" - "$sock" <<'END'
import sys
import nbd
from nbdtool import connect

sock = sys.argv[1]
content = open("0", "rb").read()
handles = []
for number, works in ((64, 1), (66, 0), (65, 0), (40, 1), (64, 1), (63, 1)):
    try:
        handle = connect(sock, str(number))
    except nbd.Error:
        assert not works, number
        continue
    assert works, number
    assert handle.pread(300000, 0) == content, number
    handles.append(handle)
for handle in handles:
    handle.shutdown()
END
opened=$(grep -c 'opened: version.*as a backing file' "$log")
[ "$opened" = 64 ] || fail "64 layers were opened $opened times"
stop_nbdkit

echo "by parameters"
args=()
for ((i = 63; i >= 0; i--)); do
    args+=("qcow2-backing=$i")
done
serves file 64 "${args[@]}"
says "$too_many" file 65 qcow2-backing=64 "${args[@]}"
