#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Many random sequences of changes of one image.

RUNS=100 STEPS=80 exec "$(dirname "$0")/test-ctl-sequences.sh"
