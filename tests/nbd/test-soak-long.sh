#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Writers, checkpoints, backups and kills, over and over: the memory of the
# server, its descriptors and its threads stay what they are.
#
# Environment
#   SEED=N       that of the first disks
#   MINUTES=N    how long
#   LIFE=N       seconds of one server
# shellcheck source=drill.sh source-path=SCRIPTDIR
source "$(dirname "$0")/drill.sh"
drill drill_soak.py --minutes "${MINUTES:-10}" --life "${LIFE:-90}"
