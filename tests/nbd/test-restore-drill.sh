#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Disks in use are backed up, at first and then what has changed, while the
# server is killed and comes back; each backup is compared byte for byte.
#
# Environment
#   SEED=N       that of the first round, which a failure prints
#   ROUNDS=N     how many
export rounds=${ROUNDS:-2}
# shellcheck source=drill.sh source-path=SCRIPTDIR
source "$(dirname "$0")/drill.sh"
drill restore_drill.py --rounds "$rounds" --most 3
