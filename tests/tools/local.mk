# SPDX-License-Identifier: BSD-3-Clause
# qcow2ctl, judged by qemu-img.

tools_tests = \
	tools/test-ctl-bitmap.sh \
	tools/test-ctl-help.sh \
	$(NULL)

TESTS += $(tools_tests)

EXTRA_DIST += \
	$(tools_tests) \
	tools/functions.sh \
	$(NULL)
