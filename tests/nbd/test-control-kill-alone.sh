#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The server is killed while a snapshot is applied, a disk made smaller, or an
# image emptied: what is left is the old disk or the new one, with a bitmap that
# is true of it.
export rounds=4
# shellcheck source=control_kill_alone.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control_kill_alone.sh"
