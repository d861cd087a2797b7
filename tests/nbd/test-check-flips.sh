#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Refcounts and tables damaged at random, checked at once and in parts, and
# repaired, against QEMU; see check_flips.py.  No server: the engine alone.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
"$PYTHON" "$nbddir/check_flips.py" "$top_builddir/tests/unit/check-file" \
          "$tmp" "${SEED:-1}" 6 extended snapshots fragmented
