#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# As test-check-flips.sh, with all kinds of images, and more of each.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
"$PYTHON" "$nbddir/check_flips.py" "$top_builddir/tests/unit/check-file" \
          "$tmp" "${SEED:-1}" 40
