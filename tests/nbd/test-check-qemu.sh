#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What a check of ours finds, and what it repairs, against QEMU; see
# check_compare.py.  No server: the engine alone.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
"$PYTHON" "$nbddir/check_compare.py" "$top_builddir/tests/unit/check-file" \
          "$tmp" "${SEED:-1}" --few
