#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The server is killed in the middle of checkpoints of two images: each has the
# snapshot and the bitmaps of one, or neither, and none that was acknowledged
# is lost.
export rounds=60
# shellcheck source=control_kill_bitmaps.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control_kill_bitmaps.sh"
