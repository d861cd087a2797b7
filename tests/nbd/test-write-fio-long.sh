#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-fio.sh, and for longer.
set -e

SIZE=40M SECONDS_MORE=30 exec "$(dirname "$0")/test-write-fio.sh"
