#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-powercut.sh, with more images and more power cuts.
set -e

SEED=${SEED:-100} ROUNDS=12 CUTS=60 exec "$(dirname "$0")/test-write-powercut.sh"
