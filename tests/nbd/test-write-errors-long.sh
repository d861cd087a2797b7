#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-errors.sh, for more streams of requests.
set -e

SEED=1000 COUNT=20 exec "$(dirname "$0")/test-write-errors.sh"
