#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# QEMU finds no errors in images that we have repaired after an unclean end;
# see repair_check.py.  There is no server, only the engine.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
"$PYTHON" "$nbddir/repair_check.py" "$top_builddir/tests/unit/repair-file" "$tmp"
