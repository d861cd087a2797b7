#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Some hundred thousand states; part of make check-long.
set -e

: "${top_builddir:?}"
exec "$top_builddir/tests/crash/test-crash" --long --seed "${CRASH_SEED:-1000}" \
     --runs "${CRASH_RUNS:-4}"
