#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# clang's static analyser with as many steps as it takes by itself.
set -e

ANALYZER_NODES=225000 exec "$(dirname "$0")/test-clang-analyzer.sh"
