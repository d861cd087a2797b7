#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A flush of the host fails once, at each place where the filter flushes: from
# then on no write or flush succeeds until all clients have left; then service
# goes on.
# shellcheck source=powercut.sh source-path=SCRIPTDIR
source "$(dirname "$0")/powercut.sh"

image=$tmp/disk.qcow2

# is_remembered WHAT OPERATION...: the operations make a flush fail, while a
# client is connected that has written 1 MiB.
is_remembered ()
{
    local what=$1

    shift
    echo "$what"
    start_client w:0:1M:1
    writetool "$uri" "$@" || fail "$what: the failed flush"
    writetool "$uri" "!EIO:f" "!EIO:w:0:64k:3" "!EIO:w:30M:64k:3" \
        "!EIO:z:0:1M" "!EIO:fua:w:1M:512:3" "!EIO:f" ||
        fail "$what: it is forgotten"
    nbdtool read "$uri" 0 512 | cmp - <(head -c 512 /dev/zero |
        tr '\0' '\1') || fail "$what: reads do not go on"
    grep -q 'a flush has failed: what was written before may be lost' "$log" ||
        fail "$what: the log does not tell"
    finish_client
    # For a new client the image is opened anew.
    writetool "$uri" w:0:1M:4 f || fail "$what: service does not go on"
    stop_nbdkit
}

fail_flush=1
new_image 1G
truncate -s 8M "$image"
start_logged file "$image"
is_remembered "the proof before the file grows" "!EIO:w:100M:12M:2"

# The check before the file grows was the first flush.
fail_flush=2
new_image 1G
truncate -s 8M "$image"
start_logged file "$image"
is_remembered "the current context" w:100M:12M:2 "!EIO:f"

fail_flush=3
new_image 1G
truncate -s 8M "$image"
start_logged file "$image"
is_remembered "one that is retired" w:100M:12M:2 "!EIO:f"

fail_flush=1
new_image 1G
truncate -s 80M "$image"
start_logged file "$image" qcow2-grow=off
is_remembered "FUA" "!EIO:fua:w:2M:64k:1"

new_image 1G
mkdir "$tmp/images"
truncate -s 80M "$image"
ln "$image" "$tmp/images/disk.qcow2"
start_logged file dir="$tmp/images"
uri=$(export_uri disk.qcow2)
is_remembered "names that mean something" "!EIO:f"

qemu-img create -q -f qcow2 -o data_file="$tmp/data.raw" "$image" 1G
truncate -s 1G "$tmp/disk.raw"
logged_file=$tmp/data.raw
start_logged file "$image" qcow2-data-file="$tmp/data.raw"
is_remembered "a data file" w:2M:64k:1 "!EIO:f"

if [ -z "$instrumented" ] && strace -f -o "$tmp/trace" true 2>/dev/null; then
    echo "what the host may have dropped is not read from its memory"
    for inject in none fdatasync:error=EIO; do
        new_image 1G
        truncate -s 80M "$image"
        # shellcheck disable=SC2054      # One argument.
        traced=(strace -D -f -qq -o "$tmp/trace" -e trace=fadvise64,fdatasync)
        flush=f
        if [ "$inject" != none ]; then
            traced+=(-e "inject=$inject")
            flush='!EIO:f'
        fi
        printf '#!/bin/bash\nexec %s "$@"\n' "${traced[*]} $NBDKIT" \
            >"$tmp/traced"
        chmod +x "$tmp/traced"
        NBDKIT=$tmp/traced start_nbdkit --filter="$filter" file "$image"
        writetool "$uri" w:0:1M:1 "$flush"
        stop_nbdkit || fail "strace"
        dropped=$(grep -c 'FADV_DONTNEED' "$tmp/trace" || true)
        [ "$((dropped > 0)) $inject" = "0 none" ] ||
            [ "$((dropped > 0)) $inject" = "1 fdatasync:error=EIO" ] ||
            fail "flushes: $inject, and pages are dropped $dropped times"
    done
fi
