# SPDX-License-Identifier: GPL-2.0
#
# What code in Rust tells the series of kernels apart by: see compat.rs.

rustflags-y += $(if $(filter 7.2,$(VERSION).$(PATCHLEVEL)),,--cfg linux_7_3)
