#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A local file grows as it is written to, and is cut back in the end; but only
# if writes reach that file, and if it may grow.  Other files are written to as
# far as they have space, and stay clean.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

M=$((1024 * 1024))

size_of ()
{
    stat -c %s "$1"
}

echo "an empty image grows, over several connections, and ends where its clusters end"
new_image 1G
start_nbdkit -v --filter="$filter" file "$tmp/disk.qcow2"
start_client w:0:1M:1
# It grows by more than needed, so that it does not grow all the time.
[ "$(size_of "$tmp/disk.qcow2")" -gt $((32 * M)) ] || fail "no large step"
# A second connection, through the first one's growth and its own.
writetool "$uri" --raw "$tmp/disk.raw" w:700M:100M:2 w:5M:64k:3 f w:300M:8M:4
nbdtool compare "$uri" "$tmp/disk.raw" --reads 100
finish_client
stop_nbdkit
grown=$(grep -c 'the file has grown to' "$log")
[ "$grown" -ge 2 ] || fail "it did not grow twice"
end=$(qemu-img check "$tmp/disk.qcow2" |
    sed -n 's/^Image end offset: //p')
[ "$(size_of "$tmp/disk.qcow2")" -eq "$end" ] ||
    fail "ends at $(size_of "$tmp/disk.qcow2"), not at $end"
check_image

echo "room that was there before is not cut off"
new_image 1G
truncate -s 20M "$tmp/disk.qcow2"
start_nbdkit -v --filter="$filter" file "$tmp/disk.qcow2"
writetool "$uri" --raw "$tmp/disk.raw" w:0:40M:1 f t:0:40M f
stop_nbdkit
has_logged 'the file has grown to'
[ "$(size_of "$tmp/disk.qcow2")" -eq $((20 * M)) ] ||
    fail "is now $(size_of "$tmp/disk.qcow2")"
check_image

echo "another process makes the file larger meanwhile: leave it alone"
new_image 1G
start_nbdkit -v --filter="$filter" file "$tmp/disk.qcow2"
start_client w:0:1M:1
truncate -s 900M "$tmp/disk.qcow2"
finish_client
stop_nbdkit
[ "$(size_of "$tmp/disk.qcow2")" -eq $((900 * M)) ] ||
    fail "is now $(size_of "$tmp/disk.qcow2")"
has_logged "not cut back"
check_image

taken ()
{
    echo $(($(stat -c %b "$1") * 512))
}

case $(stat -f -c %T "$tmp") in
ext2/ext3 | xfs)
    echo "blocks are set aside in front of what is written, and given back"
    new_image 1G
    start_nbdkit -v --filter="$filter" file "$tmp/disk.qcow2"
    start_client w:0:20M:1
    before=$(taken "$tmp/disk.qcow2")
    [ "$before" -gt $((28 * M)) ] || fail "only $before bytes are set aside"
    [ "$before" -lt $((60 * M)) ] || fail "$before bytes for a disk of 20 MiB"
    writetool "$uri" --raw "$tmp/disk.raw" w:200M:200M:2 f w:100M:64k:3
    before=$(taken "$tmp/disk.qcow2")
    [ "$before" -lt $((290 * M)) ] || fail "$before bytes for 220 MiB"
    finish_client
    stop_nbdkit
    [ "$(taken "$tmp/disk.qcow2")" -le \
      $(($(size_of "$tmp/disk.qcow2") + 65536)) ] ||
        fail "$(taken "$tmp/disk.qcow2") bytes are taken in the end"
    check_image
esac

if command -v strace >/dev/null && [ -z "$instrumented" ]; then
    echo "blocks cannot be set aside"
    new_image 1G
    cat >"$tmp/no-blocks" <<END
#!/bin/bash
exec strace -D -f -o '$tmp/strace' -e trace=fallocate \
    -e inject=fallocate:error=EOPNOTSUPP '$NBDKIT' "\$@"
END
    chmod +x "$tmp/no-blocks"
    NBDKIT=$tmp/no-blocks start_nbdkit -v --filter="$filter" \
        file "$tmp/disk.qcow2"
    writetool "$uri" --raw "$tmp/disk.raw" w:0:20M:1 f w:1M:512:3 w:500M:99M:4
    stop_nbdkit
    [ "$(grep -c FALLOC_FL_KEEP_SIZE, "$tmp/strace")" -le 1 ] ||
        fail "it tries again and again"
    check_image
fi

# full REGEX ARGUMENT...: writes succeed within its size, and fail with ENOSPC
# and a message beyond; then others still succeed.
full ()
{
    local regex=$1

    shift
    start_nbdkit -v --filter="$filter" "$@"
    writetool "$uri" --raw "$tmp/disk.raw" w:0:3M:1 "!ENOSPC:w:100M:12M:2" \
        f w:1M:512:3
    nbdtool read "$uri" 1048576 512 >"$tmp/sector"
    cmp -n 512 "$tmp/sector" <(head -c 512 /dev/zero | tr '\0' '\3') ||
        fail "after it was full, a write is lost"
    stop_nbdkit
    [ -z "$regex" ] || has_logged "$regex"
    has_not_logged 'the file has grown to'
}

# The failed write may be done in part; all else must be right.
check_full ()
{
    qemu-img check -q "$1" || fail "$1 is not clean"
    qemu-img convert -f qcow2 -O raw "$1" "$tmp/now.raw"
    cmp -n $((100 * M)) "$tmp/now.raw" "$tmp/disk.raw" ||
        fail "$1 does not hold what was written"
}

echo "qcow2-grow=off"
new_image 1G
truncate -s 8M "$tmp/disk.qcow2"
full 'qcow2-grow=off' file "$tmp/disk.qcow2" qcow2-grow=off
[ "$(size_of "$tmp/disk.qcow2")" -eq $((8 * M)) ] || fail "the size changed"
check_full "$tmp/disk.qcow2"

# Sanitizers need large files of their own.
if [ -z "$instrumented" ]; then
    echo "a limit on the size of files"
    new_image 1G
    truncate -s 8M "$tmp/disk.qcow2"
    # The limit holds for the log, too.
    cat >"$tmp/limited" <<END
#!/bin/bash
ulimit -f $((10 * 1024))
exec '$NBDKIT' "\$@"
END
    chmod +x "$tmp/limited"
    NBDKIT=$tmp/limited start_nbdkit --filter="$filter" file "$tmp/disk.qcow2"
    writetool "$uri" w:0:7M:1 "!ENOSPC:w:100M:12M:2" f w:1M:512:3
    stop_nbdkit || fail "the server did not survive a limit on the size of files"
    [ "$(size_of "$tmp/disk.qcow2")" -le $((10 * M)) ] || fail "larger than 10M"
    qemu-img check -q "$tmp/disk.qcow2" || fail "not clean"
fi

if "$NBDKIT" --dump-plugin --filter=cow null >/dev/null 2>&1; then
    echo "a cow filter below: the file is only its base"
    new_image 1G
    truncate -s 8M "$tmp/disk.qcow2"
    before=$(sha256sum <"$tmp/disk.qcow2")
    times=$(stat -c '%s %y %z' "$tmp/disk.qcow2")
    full 'cannot grow: the cow filter below keeps.*--filter=cow --filter=qcow2' \
        --filter=cow file "$tmp/disk.qcow2"
    [ "$(sha256sum <"$tmp/disk.qcow2")" = "$before" ] || fail "it was changed"
    [ "$(stat -c '%s %y %z' "$tmp/disk.qcow2")" = "$times" ] ||
        fail "it was touched"
    ! grep -q 'truncate -s' "$log" || fail "a remedy that is none"
fi

# It writes blocks of all connections through the one that flushes, which may
# know the old size only: nbdkit would abort.
if "$NBDKIT" --dump-plugin --filter=cache null >/dev/null 2>&1; then
    echo "a cache filter below: the file stays as large as it is"
    new_image 1G
    truncate -s 8M "$tmp/disk.qcow2"
    full 'cannot grow: the cache filter below.*truncate -s' \
        --filter=cache file "$tmp/disk.qcow2"
    [ "$(size_of "$tmp/disk.qcow2")" -eq $((8 * M)) ] || fail "other size"
    check_full "$tmp/disk.qcow2"
fi

if "$NBDKIT" --dump-plugin --filter=offset null >/dev/null 2>&1; then
    echo "an offset filter below: the image is only a part of the file"
    new_image 1G
    truncate -s 8M "$tmp/disk.qcow2"
    head -c 65536 /dev/urandom >"$tmp/container"
    cat "$tmp/disk.qcow2" >>"$tmp/container"
    cp "$tmp/container" "$tmp/before"
    full 'what is below is full' --filter=offset file "$tmp/container" \
        offset=65536
    [ "$(size_of "$tmp/container")" -eq $((8 * M + 65536)) ] ||
        fail "the container has another size"
    cmp -n 65536 "$tmp/container" "$tmp/before" ||
        fail "the container was written to"
    tail -c +65537 "$tmp/container" >"$tmp/disk.qcow2"
    check_full "$tmp/disk.qcow2"

    echo "a part of the file that has its size"
    new_image 1G
    truncate -s 8M "$tmp/disk.qcow2"
    start_nbdkit -v --filter="$filter" --filter=offset \
        file "$tmp/disk.qcow2" range=8M
    writetool "$uri" w:0:3M:1 "!ENOSPC:w:100M:12M:2"
    stop_nbdkit
    has_logged 'cannot grow: the layer below does not notice'
    [ "$(size_of "$tmp/disk.qcow2")" -eq $((8 * M)) ] || fail "other size"
    qemu-img check -q "$tmp/disk.qcow2" || fail "not clean"
fi

if "$NBDKIT" --dump-plugin memory >/dev/null 2>&1 &&
        "$NBDKIT" --dump-plugin nbd >/dev/null 2>&1; then
    echo "memory, of fixed size, through the nbd plugin"
    new_image 1G
    truncate -s 8M "$tmp/disk.qcow2"
    start_nbdkit -P memory memory 8M
    nbdcopy "$tmp/disk.qcow2" "$uri"
    full 'what is below is full' nbd socket="$tmp/memory.sock"
    nbdcopy "nbd+unix:///?socket=$tmp/memory.sock" "$tmp/disk.qcow2"
    check_full "$tmp/disk.qcow2"
    stop_nbdkit memory
fi

if [ "$(id -u)" -eq 0 ] && [ -z "$instrumented" ] &&
        loop=$(losetup -f 2>/dev/null) && [ -b "$loop" ]; then
    echo "a block device"
    new_image 1G
    truncate -s 8M "$tmp/disk.qcow2"
    loop=$(losetup -f --show "$tmp/disk.qcow2")
    cleanup_fn losetup -d "$loop"
    full 'what is below is full' file "$loop"
    check_full "$loop"
fi
