#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# As test-control-kill.sh, many more times.
export rounds=40
# shellcheck source=control_kill.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control_kill.sh"
