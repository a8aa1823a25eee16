// SPDX-License-Identifier: GPL-2.0
/*
 * Tells how many references to a device exist. Write the path of its sysfs
 * directory to the parameter "of". The parameter then reads as the number of
 * references to the device, and that of references to the directory. Do not use
 * this for a device that may be removed at the same time.
 */

#include <linux/fs.h>
#include <linux/kernfs.h>
#include <linux/kobject.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/namei.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

/* Both are protected by kernel_param_lock(). */
static unsigned int references;
static int directory_references;

static int set_of(const char *value, const struct kernel_param *param)
{
	struct kernfs_node *directory;
	struct kobject *kobj;
	struct inode *inode;
	struct path path;
	char *name;
	int ret;

	name = kstrdup(value, GFP_KERNEL);
	if (!name)
		return -ENOMEM;
	ret = kern_path(strim(name), LOOKUP_FOLLOW, &path);
	kfree(name);
	if (ret)
		return ret;

	inode = d_backing_inode(path.dentry);
	if (inode->i_sb->s_magic != SYSFS_MAGIC || !S_ISDIR(inode->i_mode)) {
		path_put(&path);
		return -EINVAL;
	}
	directory = inode->i_private;
	kobj = directory->priv;
	references = kref_read(&kobj->kref);
	directory_references = atomic_read(&directory->count);
	path_put(&path);
	return 0;
}

static int get_of(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%u %d\n", references, directory_references);
}

static const struct kernel_param_ops of_ops = {
	.set = set_of,
	.get = get_of,
};

module_param_cb(of, &of_ops, NULL, 0600);
MODULE_PARM_DESC(of, "directory of a device in sysfs");

MODULE_DESCRIPTION("How many references there are to a device");
MODULE_LICENSE("GPL");
