# SPDX-License-Identifier: BSD-3-Clause
# models/: protocols between threads, every interleaving of them.

TESTS += models/test-models.sh

EXTRA_DIST += \
	models/ahead.py \
	models/bitmap_clusters.py \
	models/bitmap_sets.py \
	models/bitmaps.py \
	models/check.py \
	models/commit.py \
	models/gate.py \
	models/local.mk \
	models/snapshots.py \
	models/test-models.sh \
	$(NULL)
