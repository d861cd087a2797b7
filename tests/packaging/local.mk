# SPDX-License-Identifier: BSD-3-Clause
# Packages, units of systemd, containers.

packaging_tests = \
	packaging/test-apparmor.sh \
	packaging/test-package.sh \
	packaging/test-packaging.sh \
	packaging/test-units.sh \
	$(NULL)

packaging_long_tests = \
	packaging/test-container-long.sh \
	packaging/test-deb-long.sh \
	packaging/test-distcheck-long.sh \
	packaging/test-machine-long.sh \
	packaging/test-readme-long.sh \
	packaging/test-reproducible-long.sh \
	packaging/test-rpm-long.sh \
	packaging/test-selinux-long.sh \
	$(NULL)

TESTS += $(packaging_tests)
LONG_TESTS += $(packaging_long_tests)

EXTRA_DIST += \
	$(packaging_tests) \
	packaging/containers.sh \
	packaging/debs.sh \
	packaging/lib.sh \
	packaging/local.mk \
	packaging/machine.sh \
	packaging/roots.sh \
	$(NULL)
