# SPDX-License-Identifier: GPL-2.0
#
# The version of all that is here.

version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' $(dir $(lastword $(MAKEFILE_LIST)))Cargo.toml)
