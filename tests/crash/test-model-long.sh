#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# More seeds than make check has time for; part of make check-long.
set -e

: "${top_builddir:?}"
unit=$top_builddir/tests/unit
"$unit/write/test-write-model" "${MODEL_SEED:-100000}" "${MODEL_RUNS:-6000}"
"$unit/write/test-chain" "${MODEL_SEED:-100000}" "$((${MODEL_RUNS:-6000} / 4))"
