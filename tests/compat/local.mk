# SPDX-License-Identifier: BSD-3-Clause
# Builds and end-to-end tests with the nbdkit of other Debian suites.

LONG_TESTS += compat/test-compat.sh

EXTRA_DIST += \
	compat/local.mk \
	compat/run-in-root \
	$(NULL)
