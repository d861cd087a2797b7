#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-kill.sh, with more kinds of images and more kills.
set -e

ALL=1 ROUNDS=25 exec "$(dirname "$0")/test-write-kill.sh"
