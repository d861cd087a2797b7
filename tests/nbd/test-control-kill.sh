#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The server is killed while snapshots are taken, and clients write.  No
# snapshot, and nothing that was durable, is lost; what is there is the disk at
# a point in time.
export rounds=2
# shellcheck source=control_kill.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control_kill.sh"
