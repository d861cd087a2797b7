#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same as test-write-model.sh for overlays, encrypted images and images
# with a data file: several clients write at random, then QEMU does, then we
# again.  Backing files do not change.
#
# Environment
#   SEED=N     seed of the first image
#   COUNT=N    this many more images, of kinds chosen at random
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

: "${SEED:=1}" "${COUNT:=0}"
operations=130

# kind OPTIONS KIND WAY...
kind ()
{
    local way

    for way in "${@:3}"; do
        echo "$SEED: $2, $1, $way"
        "make_$2" "$1"
        write_at_random "$SEED" "$operations" "$way"
        SEED=$((SEED + 1))
    done
}

kind cluster_size=64k over_raw file
kind cluster_size=4k over_short remote
kind cluster_size=64k,extended_l2=on over_compressed file
kind cluster_size=4k over_extended dir
kind compat=0.10 over_plain file
kind cluster_size=2M over_small nbd
kind cluster_size=512 over_large nbd
kind cluster_size=64k chain3 remote
kind cluster_size=16k,extended_l2=on chain8 file
kind cluster_size=64k,lazy_refcounts=on over_snapshot file
kind cluster_size=64k luks file
kind cluster_size=4k luks nbd
kind cluster_size=64k luks_over_luks remote
kind cluster_size=4k luks_over_raw file
kind cluster_size=64k aes file
kind cluster_size=64k data remote_data
kind cluster_size=4k data_raw file
kind cluster_size=64k,extended_l2=on data_short file

if [ "$COUNT" -eq 0 ] && "$NBDKIT" --dump-plugin --filter=log null \
        >/dev/null 2>&1; then
    echo "a flush reaches the data file"
    make_data cluster_size=64k
    serve_remote_data --filter=log logfile="$tmp/requests"
    # Connected all the time, so that the commit at the end is not tested.
    start_client w:6M:64k:2 f
    grep -q ' Flush id=' "$tmp/requests" || fail "it was not flushed"
    finish_client
    stop_all
    check_kept "$(bitmaps)"
fi

# Kinds at random.
perhaps=(--or-not)
operations=250
for ((; COUNT > 0; COUNT--)); do
    read -r kind way options < <("$PYTHON" - "$SEED" <<'PYTHON'
import random
import sys
rng = random.Random(int(sys.argv[1]))
cluster = rng.choice(("512", "1k", "4k", "16k", "64k", "64k", "256k", "2M"))
options = [f"cluster_size={cluster}"]
over = ["over_raw", "over_short", "over_plain", "over_small", "over_large",
        "over_compressed", "over_extended", "chain3", "chain8",
        "luks_over_luks", "luks_over_raw", "over_snapshot"]
kind = rng.choice(over + ["luks", "aes", "data", "data_raw", "data_short"])
ways = ["file", "nbd", "noparallel", "retry", "cache"]
if kind in over:
    ways += ["remote", "remote", "full", "dir"]
elif kind.startswith("data"):
    ways += ["remote_data", "remote_data"]
else:
    ways += ["full", "dir"]
bits = rng.choice((1, 2, 4, 8, 16, 16, 32, 64))
if rng.random() < 0.2 and "luks" not in kind and "data" not in kind:
    options.append("compat=0.10")
else:
    if bits > 1 or kind != "over_snapshot":
        options.append(f"refcount_bits={bits}")
    if rng.random() < 0.3:
        options.append("lazy_refcounts=on")
    if cluster not in ("512", "1k", "4k") and rng.random() < 0.5:
        options.append("extended_l2=on")
print(kind, rng.choice(ways), ",".join(options))
PYTHON
)
    kind "$options" "$kind" "$way"
done
