#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-chains.sh for many more chains.
set -e

SEED=1000 COUNT=300 exec "$(dirname "$0")/test-chains.sh"
