#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Several clients write at random, to images of all kinds and through all kinds
# of plugins, and read the expected bytes; then QEMU finds no errors in the
# image, and writes to it; then we write again.
#
# Environment
#   SEED=N     seed of the first image
#   COUNT=N    this many more images, of kinds chosen at random
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

: "${SEED:=1}" "${COUNT:=0}"
operations=250

# kind OPTIONS KIND PLUGIN...
kind ()
{
    local plugin

    for plugin in "${@:3}"; do
        echo "$SEED: $2, $1, $plugin"
        "make_$2" "$1"
        [ "$2" != bitmaps ] || only_read
        write_at_random "$SEED" "$operations" "$plugin"
        SEED=$((SEED + 1))
    done
}

kind cluster_size=64k empty file dir nbd
kind compat=0.10 full file
kind cluster_size=512,refcount_bits=64 full noparallel
kind cluster_size=512 empty nbd
kind cluster_size=4k,refcount_bits=1 full file
kind cluster_size=4k empty blocks full
kind cluster_size=2M full file
kind cluster_size=64k compressed file
kind cluster_size=4k,compression_type=zstd half_compressed file
kind cluster_size=64k,extended_l2=on empty file
kind cluster_size=16k,extended_l2=on,lazy_refcounts=on snapshots file
kind cluster_size=64k,lazy_refcounts=on full retry
kind cluster_size=64k,preallocation=metadata empty file
kind cluster_size=64k,refcount_bits=16 snapshots file
kind compat=0.10,cluster_size=4k snapshots file
kind cluster_size=64k vmstate file
kind cluster_size=64k bitmaps file

# Kinds at random.
perhaps=(--or-not)
for ((; COUNT > 0; COUNT--)); do
    read -r kind plugin options < <("$PYTHON" - "$SEED" <<'PYTHON'
import random
import sys
rng = random.Random(int(sys.argv[1]))
cluster = rng.choice(("512", "1k", "4k", "16k", "64k", "64k", "256k", "2M"))
options = [f"cluster_size={cluster}"]
kinds = ["empty", "full", "compressed", "half_compressed", "vmstate"]
plugins = ["file", "file", "dir", "nbd", "full", "noparallel", "retry",
           "cache"]
if cluster not in ("512", "1k"):
    plugins.append("blocks")
if rng.random() < 0.2:
    options.append("compat=0.10")
    kinds.append("snapshots")
else:
    kinds.append("bitmaps")
    bits = rng.choice((1, 2, 4, 8, 16, 16, 32, 64))
    options.append(f"refcount_bits={bits}")
    if bits > 1:
        kinds += ["snapshots"] * 2
    if rng.random() < 0.3:
        options.append("lazy_refcounts=on")
    if rng.random() < 0.3:
        options.append("compression_type=zstd")
    if cluster not in ("512", "1k", "4k") and rng.random() < 0.5:
        options.append("extended_l2=on")
kind = rng.choice(kinds)
if kind == "empty" and rng.random() < 0.5:
    options.append("preallocation=metadata")
print(kind, rng.choice(plugins), ",".join(options))
PYTHON
)
    kind "$options" "$kind" "$plugin"
done
