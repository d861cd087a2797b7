#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Connections for reading ahead that break: each fails one request at most, is
# closed, and is replaced.  Clients notice nothing.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

requires_plugin eval
skip_if_instrumented "what is preloaded would go into the scripts, too"
make_real "$tmp/disk.raw" $((24 * M))
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0

# A plugin with numbered connections that logs their actions: "1 open", "1
# read", "1 failed", "1 close".  Those up to the number in $tmp/dead, except
# the first, fail, as if they were older than a restart of the server.  'path'
# is one of the keys that tell the filter that export names do not matter; else
# it opens none.  It reads ahead in small steps, so that some are made after
# the death.
events=$tmp/events
echo 0 >"$tmp/dead"
echo 0 >"$tmp/opened"
start_nbdkit -r -v -D qcow2.stats=1 -D nbdkit.backend.datapath=0 \
    --filter="$filter" eval config="exit 0" path="$tmp/plain.qcow2" \
    qcow2-readahead=4M qcow2-check-at-start=off \
    thread_model="echo serialize_requests" \
    open="n=\$((\$(cat $tmp/opened) + 1)); echo \$n | tee $tmp/opened
          echo \$n open >>$events" \
    close="echo \$2 close >>$events" \
    get_size="stat -c %s $tmp/plain.qcow2" \
    pread="if [ \$2 -gt 1 ] && [ \$2 -le \$(cat $tmp/dead) ]; then
               echo \$2 failed >>$events; echo EIO dead >&2; exit 1; fi
           echo \$2 read >>$events
           exec dd if=$tmp/plain.qcow2 iflag=skip_bytes,count_bytes \
               skip=\$4 count=\$3 bs=65536 status=none"

# One client reads a third of the disk; then all connections except the
# client's own break, and it reads the rest.
"$PYTHON" - "$uri" "$tmp/disk.raw" "$tmp" <<'END'
import sys
import time
from nbdtool import Raw, connect

handle, raw, tmp = connect(sys.argv[1]), Raw(sys.argv[2]), sys.argv[3]


def copy(start, end):
    for offset in range(start << 20, end << 20, 65536):
        raw.check(offset, bytes(handle.pread(65536, offset)))


copy(0, 8)
time.sleep(1)                   # what is read ahead arrives
with open(f"{tmp}/opened") as opened, open(f"{tmp}/dead", "w") as dead:
    dead.write(opened.read())
with open(f"{tmp}/events", "a") as events:
    events.write("0 dead\n")
copy(8, 24)
handle.shutdown()
END
stop_nbdkit

"$PYTHON" - "$events" "$(cat "$tmp/dead")" <<'END' || {
import sys
from collections import Counter

lines = [line.split() for line in open(sys.argv[1])]
events = [(int(number), what) for number, what in lines]
death, last_dead = events.index((0, "dead")), int(sys.argv[2])
count = Counter(events)
new = {n for n, what in events[death:] if what == "open"}
ahead = sum(what == "read" and n > 1 for n, what in events[:death])
again = sum(count[n, "read"] for n in new)
failed = sum(what == "failed" for _, what in events)
print(f"{last_dead - 1} connections for reading ahead, {ahead} reads; "
      f"they die: {failed} failures; {len(new)} new ones, {again} reads")
assert last_dead > 1 and ahead > 3, "nothing was read ahead at first"
assert failed > 0, "nobody used a dead connection"
for n in range(2, last_dead + 1):
    assert count[n, "failed"] <= 1, f"{n} was used when it was dead"
    if count[n, "failed"]:
        closed, died = events.index((n, "close")), events.index((n, "failed"))
        assert closed > died, f"{n} was not closed when it had failed"
assert again > 3, "nothing was read ahead after that"
assert all(count[n, "open"] == count[n, "close"] == 1
           for n in range(1, last_dead + len(new) + 1)), "not all are closed"
END
    cat "$events"
    fail "see above"
}
