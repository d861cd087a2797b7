#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Each model of this folder holds, and each bug that it plants breaks it.

set -e
set -u

folder=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
command -v "$python" >/dev/null || {
    echo "SKIP: needs python3"
    exit 77
}
for model in "$folder"/*.py; do
    echo "$model:"
    "$python" "$model"
done
