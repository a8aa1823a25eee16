// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>
#include <linux/sysfs.h>

#include "helpers.h"

/*
 * Returns the directory "holders" of the module @name in sysfs, which lists the
 * modules that use it. Returns NULL if no such module is loaded. Code that is
 * built in has no such directory.
 */
static struct kernfs_node *holders_of(const char *name)
{
	struct kobject *module = kset_find_obj(THIS_MODULE->mkobj.kobj.kset, name);
	struct kernfs_node *holders = NULL;

	if (module && module->sd)
		holders = sysfs_get_dirent(module->sd, "holders");
	kobject_put(module);
	return holders;
}

/* Returns whether a module of this name is loaded. False for built-in code. */
bool dmacoh_module_exists(const char *name)
{
	struct kernfs_node *holders = holders_of(name);

	sysfs_put(holders);
	return holders;
}

/* Returns whether the module @user uses symbols of the module named @used. */
bool dmacoh_module_uses(const struct module *user, const char *used)
{
	struct kernfs_node *holders = holders_of(used), *holder = NULL;

	if (holders)
		holder = sysfs_get_dirent(holders, user->name);
	sysfs_put(holder);
	sysfs_put(holders);
	return holder;
}

bool dmacoh_within_module(unsigned long addr, const struct module *mod)
{
	return within_module(addr, mod);
}
