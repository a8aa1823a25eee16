// SPDX-License-Identifier: GPL-2.0

#include <linux/sysfs.h>

#include "helpers.h"

/* Returns whether the directory of @kobj has an entry of this name. */
bool dmacoh_sysfs_has(struct kobject *kobj, const char *name)
{
	struct kernfs_node *found = sysfs_get_dirent(kobj->sd, name);

	sysfs_put(found);
	return found;
}

void dmacoh_sysfs_attr_init(struct attribute *attr)
{
	sysfs_attr_init(attr);
}
