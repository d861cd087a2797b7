#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The sources have not outgrown the bugs that test-mutants.sh plants in them: all
# can be built.  It tries them in "make check-long" only.
BUILD_ONLY=yes exec "$(dirname "$0")/test-mutants.sh"
