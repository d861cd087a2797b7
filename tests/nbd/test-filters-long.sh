#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test-filters-above.sh and -below.sh with every filter that is installed.
set -e

for side in above below; do
    EVERY=1 "$(dirname "$0")/test-filters-$side.sh"
done
