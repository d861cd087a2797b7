#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Reads of local files through bounce buffers (host/bounce.h): which of them,
# and that clients and the plugin notice nothing of it.
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "$0")/requests.sh"

requires_qemu
requires_libnbd
requires_plugin file
M=$((1024 * 1024))

# same ARGUMENT...: the server serves $tmp/disk.raw, to one connection and to
# many, whatever the processor is like.
same ()
{
    local mode

    for mode in 1 2; do
        start_nbdkit -D qcow2.bounce=$mode --filter="$filter" "$@"
        nbdtool compare "$uri" "$tmp/disk.raw" --connections 1 --reads 20
        nbdtool compare "$uri" "$tmp/disk.raw" --connections 6 --reads 40 \
            --seed $mode --only-random
        stop_nbdkit
    done
}

# ---- The bytes -------------------------------------------------------------

cd "$tmp"
make_disk disk.raw $((3 * M + 512)) 65536

echo "with holes, and the file ends in the last cluster"
make_image disk.qcow2 disk.raw
same -r file disk.qcow2
qemu-io -f qcow2 -c "write -q -P 9 $((3 * M)) 512" disk.qcow2
qemu-io -f raw -c "write -q -P 9 $((3 * M)) 512" disk.raw
"$PYTHON" -c 'import os; size = os.path.getsize("disk.qcow2")
os.truncate("disk.qcow2", size // 65536 * 65536 + 512)' || :
same -r file disk.qcow2

echo "other clusters"
for options in cluster_size=512 cluster_size=2M; do
    make_image disk.qcow2 disk.raw -o $options
    same -r file disk.qcow2
done

echo "compressed"
make_image disk.qcow2 disk.raw -c
same -r file disk.qcow2

echo "over a backing image, and with a data file"
mv disk.qcow2 base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 \
    -o data_file=data,data_file_raw=off disk.qcow2
for file in disk.qcow2 disk.raw; do
    format=${file#disk.}
    qemu-io -f "$format" -c 'write -q -P 5 1000000 1500000' \
        -c 'write -q -P 6 2600k 64k' "$file" >/dev/null
done
same -r file disk.qcow2 qcow2-follow=.

echo "through a context that also writes"
same file disk.qcow2 qcow2-follow=.

if ! run_nbdkit --dump-plugin --filter="$filter" null 2>/dev/null |
       grep -q '^qcow2_luks=no'; then
    echo "encrypted"
    # shellcheck source=luks.sh source-path=SCRIPTDIR
    source "$nbddir/luks.sh"
    make_disk "$tmp/pattern" $((3 * M + 512)) 65536
    # shellcheck disable=SC2154     # Of luks.sh.
    encrypt $((3 * M + 512)) "$luks"
    fill "$tmp/pattern"
    # shellcheck disable=SC2154
    same -r file "$image" qcow2-passphrase=+"$secret"
fi

# ---- The requests ----------------------------------------------------------

echo "the plugin gets the same requests"
make_noise "$tmp/disk.raw" $((6 * M))
for options in cluster_size=64k cluster_size=4k; do
    make_image disk.qcow2 disk.raw -o $options
    for mode in 2 3; do
        start_logged disk.qcow2 -D qcow2.bounce=$mode
        nbdtool compare "$uri" disk.raw --connections 1 --reads 0
        for range in "0 1" "4095 4098" "100000 262144" "65536 2097152" \
                     "1000 2097153"; do
            # shellcheck disable=SC2086     # Two words.
            read_range $range
        done
        stop_nbdkit
        sed -n 's/^.* Read id=[0-9]* \(.*\) \.\.\.$/\1/p' requests |
            sort >requests.$mode
    done
    [ -s requests.2 ] || fail "nothing was logged: $(head -n 3 requests)"
    diff -u requests.2 requests.3 || fail "$options: other requests"
done

# ---- Which reads -----------------------------------------------------------

make_image disk.qcow2 disk.raw

# bounced MODE ARGUMENT...: sets large_bounced and small_bounced, how many of
# two reads of 256 KiB, and of two of 1 KiB, went through a buffer.
bounced ()
{
    local mode=$1 large small

    shift
    start_nbdkit -r -v -D qcow2.io=1 -D qcow2.bounce="$mode" "$@" \
        qcow2-readahead=0
    # Over one connection: what is allocated after something was freed begins
    # anywhere in a page.
    "$PYTHON" - "$uri" <<'END'
import sys
from nbdtool import connect
handle = connect(sys.argv[1])
for at in 1, 2:
    handle.pread(262144, at << 20)
    handle.pread(1024, 4 << 20 | at << 12)
handle.shutdown()
END
    stop_nbdkit
    large=$(grep -c 'below: read data count=262144 ' "$log" || :)
    small=$(grep -c 'below: read data count=1024 ' "$log" || :)
    large_bounced=$(grep -c 'read data count=262144 .* bounced$' "$log" || :)
    small_bounced=$(grep -c 'read data count=1024 .* bounced$' "$log" || :)
    [ "$large $small" = "2 2" ] || fail "$large and $small reads: $*"
}

# expects LARGE SMALL MODE ARGUMENT...: that many went through one.
expects ()
{
    bounced "${@:3}"
    [ "$large_bounced $small_bounced" = "$1 $2" ] ||
        fail "$large_bounced and $small_bounced, not $1 and $2: ${*:3}"
}

echo "any read, large reads, or none"
expects 2 2 2 --filter="$filter" file disk.qcow2
expects 0 0 3 --filter="$filter" file disk.qcow2
expects 2 2 2 --filter="$filter" --filter=log file disk.qcow2 logfile=requests
# Other implementations of malloc return other memory.
if [ -z "$instrumented" ]; then
    expects 2 0 1 --filter="$filter" file disk.qcow2
fi

echo "only of the file plugin itself"
expects 0 0 1 --filter="$filter" --filter=log file disk.qcow2 logfile=requests
if "$NBDKIT" --dump-plugin split >/dev/null 2>&1; then
    expects 0 0 1 --filter="$filter" split disk.qcow2
fi

echo "as measured, where malloc maps what is large"
export GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072
bounced 0 --filter="$filter" file disk.qcow2
unset GLIBC_TUNABLES
said=$(grep -o 'qcow2: bounce buffers: .*' "$log" || :)
echo "${said:-no measurement}"
case $said in
"qcow2: bounce buffers: used: "*) want="2 0" ;;
"qcow2: bounce buffers: not used: "* | "") want="0 0" ;;
*) fail "that is no line of the log, or too many" ;;
esac
[ "$large_bounced $small_bounced" = "$want" ] ||
    fail "$large_bounced and $small_bounced, but: $said"
[ -n "$said" ] || [ -n "$instrumented" ] || fail "nothing was measured"

# One place of 256 needs a buffer.  What else the server has allocated decides.
echo "seldom, since malloc is brought to map little"
if [ -z "$instrumented" ]; then
    seldom=
    for threads in 16 1 5; do
        bounced 0 -t $threads --filter="$filter" file disk.qcow2
        [ "$large_bounced $small_bounced" = "0 0" ] && seldom=yes
    done
    [ "$seldom" ] || fail "buffers of requests lie where reading is slow"
fi

echo "no file may grow: measuring, too, is no reason to end"
[ -n "$instrumented" ] || (
    ulimit -f 0
    # shellcheck disable=SC2016         # nbdkit's shell expands it.
    "$NBDKIT" -r -U - --filter="$filter" file disk.qcow2 \
        --run 'nbdinfo --size "$uri"' | cat > /dev/null
) || fail "the server ends with ulimit -f 0"
