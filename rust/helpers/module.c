// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>

#include "helpers.h"

void dmacoh___module_get(struct module *module)
{
	__module_get(module);
}

void dmacoh_module_put(struct module *module)
{
	module_put(module);
}
