#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# As test-restore-drill.sh, for some hundreds of rounds, other ones each time.
#
# Environment
#   SEED=N       that of the first round, which a failure prints
#   ROUNDS=N     how many
export rounds=${ROUNDS:-300}
# shellcheck source=drill.sh source-path=SCRIPTDIR
source "$(dirname "$0")/drill.sh"
drill restore_drill.py --rounds "$rounds"
