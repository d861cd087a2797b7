#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test-ctl-rebase.sh with more kinds of images.

ALL=1 exec "$(dirname "$0")/test-ctl-rebase.sh"
