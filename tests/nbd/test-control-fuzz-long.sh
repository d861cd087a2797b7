#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Random commands for the control socket, those that make sense and those that
# do not, beside a model of what they do.
export runs=30 count=2000
# shellcheck source=control_fuzz.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control_fuzz.sh"
