#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The same as test-html.sh, and in a browser.
set -e

LONG=1 exec "$(dirname "$0")/test-html.sh"
