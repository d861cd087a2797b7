#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# With -r nothing is written: the export is read-only, the plugin opens the
# file read-only, and the file does not change.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
make_standard_image
before=$(sha256sum <"$tmp/disk.qcow2")

check_server ()
{
    check_read_only
    nbdtool compare "$uri" "$tmp/disk.raw"
}

start_nbdkit -r --filter="$filter" file "$tmp/disk.qcow2"
check_server
stop_nbdkit

echo "a file that cannot be written to"
chmod 0444 "$tmp/disk.qcow2"
start_nbdkit -r --filter="$filter" file "$tmp/disk.qcow2"
check_server
stop_nbdkit
[ "$(sha256sum <"$tmp/disk.qcow2")" = "$before" ] || fail "the file changed"

echo "how it was opened"
if [ -z "$instrumented" ] && strace -f true 2>/dev/null; then
    NBDKIT_REAL=$NBDKIT
    cat >"$tmp/traced" <<END
#!/bin/bash
exec strace -D -f -e trace=openat,open -o '$tmp/trace' '$NBDKIT_REAL' "\$@"
END
    chmod +x "$tmp/traced"
    NBDKIT=$tmp/traced
    chmod 0644 "$tmp/disk.qcow2"
    start_nbdkit -r --filter="$filter" file "$tmp/disk.qcow2"
    check_server
    stop_nbdkit
    grep 'disk\.qcow2' "$tmp/trace" >"$tmp/opens"
    grep -q O_RDONLY "$tmp/opens" || fail "no open of the image was seen"
    if grep -v O_RDONLY "$tmp/opens"; then
        fail "the image was opened for writing"
    fi
fi
