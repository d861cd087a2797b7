#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What we make of images that were not closed cleanly, QEMU finds nothing
# wrong with; see repair_check.py.  No server: the engine alone.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
"$PYTHON" "$nbddir/repair_check.py" "$top_builddir/tests/unit/repair-file" "$tmp"
