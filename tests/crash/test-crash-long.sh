#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Some hundred thousand states; part of make check-long.
set -e

: "${top_builddir:?}"
crash=$top_builddir/tests/crash/test-crash
seed=${CRASH_SEED:-1000}
"$crash" --long --seed "$seed" --runs "${CRASH_RUNS:-4}"
"$crash" --seed "$seed" --random 0 --variant all
"$top_builddir/tests/crash/test-bitmaps-crowd" "$seed" "${CRASH_CROWDS:-20}"
