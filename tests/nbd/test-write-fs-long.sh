#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-fs.sh with more files, more often.
set -e

FILES=30000 ROUNDS=6 exec "$(dirname "$0")/test-write-fs.sh"
