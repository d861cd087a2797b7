# SPDX-License-Identifier: BSD-3-Clause
# End to end: the filter in a real server, real images, plugins and clients.

nbd_tests = \
	nbd/test-exports-dir.sh \
	nbd/test-exports-ignored.sh \
	nbd/test-exports-links.sh \
	nbd/test-exports-replaced.sh \
	nbd/test-exports-unknown.sh \
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
	nbd/test-plugin-curl.sh \
	nbd/test-plugin-data.sh \
	nbd/test-plugin-eval.sh \
	nbd/test-plugin-file.sh \
	nbd/test-plugin-memory.sh \
	nbd/test-plugin-nbd.sh \
	nbd/test-plugin-python.sh \
	nbd/test-plugin-split.sh \
	nbd/test-plugin-ssh.sh \
	$(NULL)

TESTS += $(nbd_tests)

EXTRA_DIST += \
	$(nbd_tests) \
	nbd/functions.sh \
	nbd/matrix.sh \
	nbd/matrix_check.py \
	nbd/nbdtool.py \
	nbd/services.sh \
	$(NULL)
