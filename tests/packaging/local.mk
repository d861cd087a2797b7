# SPDX-License-Identifier: BSD-3-Clause
# Packages, units of systemd, containers.

packaging_tests = \
	packaging/test-package.sh \
	packaging/test-packaging.sh \
	packaging/test-units.sh \
	$(NULL)

TESTS += $(packaging_tests)

EXTRA_DIST += \
	$(packaging_tests) \
	packaging/lib.sh \
	packaging/local.mk \
	$(NULL)
