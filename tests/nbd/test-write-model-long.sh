#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-model.sh for many more images.
set -e

SEED=1000 COUNT=400 exec "$(dirname "$0")/test-write-model.sh"
