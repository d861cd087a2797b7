#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test-ctl-qemu.sh with all images of the matrix, and all hostile ones.

ALL=1 exec "$(dirname "$0")/test-ctl-qemu.sh"
