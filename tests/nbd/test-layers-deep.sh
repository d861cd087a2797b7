#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A chain of 64 backing files is served, one of 65 is not, from any start in
# the chain, and even if a part of it is open already; more, up to 512, if a
# parameter says so.
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

echo "as many as a parameter allows"
name=70
truth 70
serves file dir=. qcow2-follow=. qcow2-chain-depth=70
says 'more than 69 backing files.*qcow2-chain-depth=N' file dir=. \
    qcow2-follow=. qcow2-chain-depth=69
name=3
says 'more than 2 backing files' file dir=. qcow2-follow=. qcow2-chain-depth=2
for depth in 0 513 -1 x; do
    ! run_nbdkit -U - --filter="$filter" file dir=. \
        "qcow2-chain-depth=$depth" --run true >"$tmp/out" 2>&1 ||
        fail "qcow2-chain-depth=$depth is accepted"
    grep -q 'qcow2-chain-depth' "$tmp/out" || fail "$(cat "$tmp/out")"
done

echo "512, on small stacks and with few descriptors; 513"
mkdir long
cp 0 long/000
qemu-img create -q -f qcow2 -u -b ./000 -F raw long/one 300032
qemu-img create -q -f qcow2 -u -b ./000 -F qcow2 long/next 300032
"$PYTHON" - <<'END'
one, following = (open(f"long/{name}", "rb").read()
                  for name in ("one", "next"))
for n in range(1, 514):
    below = f"./{n - 1:03}".encode()
    content = one if n == 1 else following
    assert content.count(b"./000") == 1
    with open(f"long/{n:03}", "wb") as f:
        f.write(content.replace(b"./000", below))
END
# in_limits STACK FILES COMMAND...
in_limits ()
{
    (
        ulimit -s "$1"
        ulimit -n "$2"
        shift 2
        "$@"
    ) || exit 1
}
args=(file dir=long qcow2-follow=long qcow2-chain-depth=512)
no_stack ()
{
    ! run_nbdkit -U - --filter="$filter" "${args[@]}" --run true \
        >"$tmp/out" 2>&1 || fail "it starts on a small stack"
    grep -q "stack of 4608K.*ulimit -s 4608" "$tmp/out" ||
        fail "$(cat "$tmp/out")"
}
if [ -z "$instrumented" ]; then     # with a sanitizer frames are larger
    name=512
    in_limits 5000 1024 serves "${args[@]}"
    in_limits 1024 1024 no_stack
    in_limits unlimited 1024 no_stack   # which means 2 MiB to glibc
fi
name=513
says 'more than 512 backing files below each other; .qemu-img' "${args[@]}"

echo "too few descriptors are an error, and no more"
name=512
in_limits 8192 300 says 'Too many open files' "${args[@]}"
