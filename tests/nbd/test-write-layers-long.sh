#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-layers.sh for many more images.
set -e

SEED=1000 COUNT=200 exec "$(dirname "$0")/test-write-layers.sh"
