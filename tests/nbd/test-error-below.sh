#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The plugin fails for a while: those requests fail with EIO, later ones
# succeed; failures are not cached.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
requires_filter error
make_standard_image
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c
trigger=$tmp/trigger

for name in disk packed; do
    start_nbdkit --filter="$filter" --filter=error file "$tmp/$name.qcow2" \
        error-pread=EIO error-pread-rate=100% error-pread-file="$trigger"

    echo "$name: opening fails, later it does not"
    touch "$trigger"
    nbdtool fails "$uri"
    nbdtool fails "$uri"
    rm "$trigger"
    nbdtool size "$uri"

    echo "$name: a connection during which reading fails for a while"
    "$PYTHON" - "$uri" "$tmp/disk.raw" "$trigger" <<'END'
import errno
import os
import sys
import nbd
from nbdtool import Raw, block_status, connect

uri, raw, trigger = connect(sys.argv[1]), Raw(sys.argv[2]), sys.argv[3]
for _ in range(3):
    open(trigger, "w").close()
    for offset in (0, 65536, 4 << 20):      # the first needs metadata, too
        try:
            # Bytes read before may be cached: then they are right.
            raw.check(offset, bytes(uri.pread(65536, offset)))
        except nbd.Error as error:
            assert error.errnum == errno.EIO, error
    os.unlink(trigger)
    for offset in range(0, raw.size, 65536):
        raw.check(offset, bytes(uri.pread(65536, offset)))
    assert block_status(uri, raw.size, 0)
uri.shutdown()
END
    stop_nbdkit

    echo "$name: one read in twenty fails"
    start_nbdkit --filter="$filter" --filter=error file "$tmp/$name.qcow2" \
        error-pread=EIO error-pread-rate=5% error-pread-file="$trigger"
    nbdtool size "$uri"
    "$PYTHON" - "$uri" "$tmp/disk.raw" "$trigger" <<'END'
import errno
import random
import sys
import nbd
from nbdtool import Raw, connect, random_ranges

raw = Raw(sys.argv[2])
handles = [connect(sys.argv[1]) for _ in range(4)]
open(sys.argv[3], "w").close()
good = bad = 0
for offset, length in random_ranges(raw.size, 600, random.Random(1)):
    try:
        data = bytes(handles[good % 4].pread(length, offset))
    except nbd.Error as error:
        assert error.errnum == errno.EIO, error
        bad += 1
    else:
        raw.check(offset, data)
        good += 1
assert good > 200 and bad > 0, (good, bad)
print(f"{good} good, {bad} bad")
for handle in handles:
    handle.shutdown()
END
    rm "$trigger"
    stop_nbdkit
done
