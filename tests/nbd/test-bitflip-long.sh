#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-bitflip.sh for thousands of damaged images.
set -e

SEED=1000 COUNT=8000 exec "$(dirname "$0")/test-bitflip.sh"
