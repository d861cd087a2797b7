#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Ten minutes of fuzzing changes of images; part of make check-long.
set -e

: "${top_srcdir:?}" "${top_builddir:?}"
FUZZ_TARGET=fuzz-edit FUZZ_DIR="$top_builddir/tests/fuzz/build-edit" \
    exec "$top_srcdir/tests/fuzz/run-fuzz" "${FUZZ_SECONDS:-600}"
