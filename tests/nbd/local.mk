# SPDX-License-Identifier: BSD-3-Clause
# End to end: the filter in a real server, real images, plugins and clients.

nbd_tests = \
	nbd/test-matrix-clusters.sh \
	nbd/test-matrix-eof.sh \
	nbd/test-matrix-extl2.sh \
	nbd/test-matrix-huge.sh \
	nbd/test-matrix-other.sh \
	nbd/test-matrix-prealloc.sh \
	nbd/test-matrix-refcounts.sh \
	nbd/test-matrix-sizes.sh \
	nbd/test-matrix-v1.sh \
	nbd/test-matrix-zlib.sh \
	nbd/test-matrix-zstd.sh \
	$(NULL)

TESTS += $(nbd_tests)

EXTRA_DIST += \
	$(nbd_tests) \
	nbd/functions.sh \
	nbd/matrix.sh \
	nbd/matrix_check.py \
	nbd/nbdtool.py \
	$(NULL)
