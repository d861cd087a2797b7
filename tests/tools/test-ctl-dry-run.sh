#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What qcow2ctl check --dry-run says of a repair is what the repair then does,
# for images that are damaged at random or cut off, or are checked in parts; see
# dry_run.py.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
has_json || skip "qcow2ctl was built without jansson"

"$PYTHON" "$toolsdir/dry_run.py" "$ctl" "$tmp" \
    "${SEED:-1}" "${COUNT:-8}" plain extended snapshots fragmented bitmaps
echo "ok"
