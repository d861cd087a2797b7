#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Random sequences of changes of one image, by qemu-img, by qcow2ctl and through
# the filter in turn, against a model: sequences.py.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_qemu
requires_libnbd
requires_program nbdcopy
skip_if_instrumented "nbdkit --run hands on the libraries that are preloaded"
has_json || skip "qcow2ctl was built without jansson"

# shellcheck disable=SC2154             # Set by functions.sh.
"$PYTHON" "$toolsdir/sequences.py" --ctl "$ctl" --filter "$filter" \
    --tmp "$tmp" --seed "${SEED:-$RANDOM}" --runs "${RUNS:-3}" \
    --steps "${STEPS:-30}" || fail "see above; SEED=N tries it again"
