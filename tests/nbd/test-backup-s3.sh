#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The commands of docs/BACKUP.md that put backups into S3, with a server of our
# own; what it has then is what the document says; and one object cannot be
# written to.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
# shellcheck source=s3.sh source-path=SCRIPTDIR
source "$(dirname "$0")/s3.sh"
requires_program curl xz
requires_filter blocksize-policy
curl --help all | grep -q -e --aws-sigv4 || skip "curl cannot sign requests"

start_s3 backups
export S3=$endpoint
"$PYTHON" "$top_srcdir/tests/style/examples.py" --mark=s3 "$filter" \
    "$top_srcdir/docs/BACKUP.md" || fail "see above"

echo "what is there"
"$PYTHON" - "$endpoint" <<'END' || fail "other objects"
import sys
import boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
sizes = {o["Key"]: o["Size"]
         for o in s3.list_objects(Bucket="backups")["Contents"]}
print(sizes)
assert 0 < sizes["inc1.qcow2"] < 1 << 20 and sizes["full.qcow2"] > 0
parts = {int(k[5:], 16): n for k, n in sizes.items() if k.startswith("disk/")}
assert set(parts.values()) == {4 << 20}, parts
assert len(parts) < 5 and 128 in parts and 0 in parts, parts
END

echo "one object cannot be written to"
start_nbdkit S3 endpoint-url="$endpoint" bucket=backups key=full.qcow2
if nbdcopy "$tmp/tiny" "$uri" 2>"$tmp/said"; then
    fail "it can"
fi
grep -q 'read-only' "$tmp/said" || fail "$(cat "$tmp/said")"
stop_nbdkit

echo "nor are there large objects without a filter"
start_nbdkit S3 endpoint-url="$endpoint" bucket=backups key=disk size=1G \
    object-size=4M
nbdinfo "$uri" >/dev/null 2>&1 && echo "(this nbdkit has them)"
stop_nbdkit
