#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-random-images.sh for many more images.
set -e

SEED=1000 COUNT=2000 exec "$(dirname "$0")/test-random-images.sh"
