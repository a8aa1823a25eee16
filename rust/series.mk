# SPDX-License-Identifier: GPL-2.0
#
# What code tells the series of kernels apart by: in Rust see compat.rs.

is-7.2 := $(filter 7.2,$(VERSION).$(PATCHLEVEL))

rustflags-y += $(if $(is-7.2),,--cfg linux_7_3)
ccflags-y += $(if $(is-7.2),-DDMACOH_LINUX_7_2)
