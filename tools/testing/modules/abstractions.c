// SPDX-License-Identifier: GPL-2.0
/*
 * The C helpers of the abstractions in rust/kernel. Each module here that uses
 * the abstractions links this.
 */

#include "../../../rust/helpers/helpers.c"
