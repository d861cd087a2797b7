#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Nothing to report from shellcheck, which looks into included files, too.
set -e

SHELLCHECK_INCLUDED=1 exec "$(dirname "$0")/test-shellcheck.sh"
