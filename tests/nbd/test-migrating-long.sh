#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-migrating.sh for each pair of the page.
set -e

EVERY=1 exec "$(dirname "$0")/test-migrating.sh"
