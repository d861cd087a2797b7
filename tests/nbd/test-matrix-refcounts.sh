#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Group "refcounts" of the matrix of real images; see matrix_check.py.
# shellcheck source=matrix.sh source-path=SCRIPTDIR
source "$(dirname "$0")/matrix.sh"

check_matrix refcounts
