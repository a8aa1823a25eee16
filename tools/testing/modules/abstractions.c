// SPDX-License-Identifier: GPL-2.0
/*
 * What the abstractions in rust/kernel need of C, for each module here that
 * is built with them.
 */

#include "../../../rust/helpers/helpers.c"
