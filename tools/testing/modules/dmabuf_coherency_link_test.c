// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the functions by which drivers choose a heap for their device,
 * called from C as such a driver would. Boot with kunit.enable=1 and
 * kunit.autorun=1, and load it.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/device.h>
#include <linux/device/driver.h>
#include <linux/dma-mapping.h>
#include <linux/dmabuf_coherency.h>
#include <linux/kernfs.h>
#include <linux/module.h>

/* A heap that takes every device, and one that takes only those that snoop. */
#define PATIENT		"system-noncoherent"
#define STRICT		"system-coherent"

/* Whether @directory/@name exists in sysfs below @dev; @directory may be NULL. */
static bool exists(struct device *dev, const char *directory, const char *name)
{
	struct kernfs_node *parent = dev->kobj.sd;
	struct kernfs_node *found;

	if (directory)
		parent = kernfs_find_and_get(parent, directory);
	else
		kernfs_get(parent);
	if (!parent)
		return false;

	found = kernfs_find_and_get(parent, name);
	kernfs_put(parent);
	kernfs_put(found);
	return found;
}

/* A device bound to a driver, able to do DMA. */
static struct device *bound_device(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, test->name);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
	return dev;
}

static void create_and_remove(struct kunit *test)
{
	struct device *dev = bound_device(test);

	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, PATIENT), 0);
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", "system"));
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", "order"));
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", PATIENT));

	dma_heap_remove_device_link(dev);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heaps"));
}

static void create_twice(struct kunit *test)
{
	struct device *dev = bound_device(test);

	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, PATIENT), 0);
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, PATIENT), -EEXIST);
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, "system"), -EEXIST);
	KUNIT_EXPECT_TRUE(test, exists(dev, NULL, "dma_heap"));

	dma_heap_remove_device_link(dev);
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, "system"), 0);
	dma_heap_remove_device_link(dev);
}

static void unknown_heap(struct kunit *test)
{
	struct device *dev = bound_device(test);

	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, "nonesuch"), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, ""), -EINVAL);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
}

static void remove_without_link(struct kunit *test)
{
	struct device *dev = bound_device(test);

	dma_heap_remove_device_link(dev);
	dma_heap_remove_device_link(dev);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
}

static void refusing_heap(struct kunit *test)
{
	struct device *dev = bound_device(test);

	dev_clear_dma_coherent(dev);
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, STRICT), -EOPNOTSUPP);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));

	dev_set_dma_coherent(dev);
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, STRICT), 0);
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", STRICT));
	dma_heap_remove_device_link(dev);
}

static void unbind_removes(struct kunit *test)
{
	struct device *dev = bound_device(test);

	/* The driver forgets to remove it. */
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, PATIENT), 0);
	device_release_driver(dev);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heaps"));
}

static void managed(struct kunit *test)
{
	struct device *dev = bound_device(test);

	KUNIT_EXPECT_EQ(test, devm_dma_heap_create_device_link(dev, PATIENT), 0);
	KUNIT_EXPECT_EQ(test, devm_dma_heap_create_device_link(dev, PATIENT), -EEXIST);
	KUNIT_EXPECT_TRUE(test, exists(dev, NULL, "dma_heap"));
	device_release_driver(dev);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
}

static void device_gone(struct kunit *test)
{
	struct device *dev = bound_device(test);

	get_device(dev);
	kunit_device_unregister(test, dev);
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, PATIENT), -ENODEV);
	KUNIT_EXPECT_EQ(test, devm_dma_heap_create_device_link(dev, PATIENT), -ENODEV);
	dma_heap_remove_device_link(dev);
	put_device(dev);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(create_and_remove),
	KUNIT_CASE(create_twice),
	KUNIT_CASE(unknown_heap),
	KUNIT_CASE(remove_without_link),
	KUNIT_CASE(refusing_heap),
	KUNIT_CASE(unbind_removes),
	KUNIT_CASE(managed),
	KUNIT_CASE(device_gone),
	{ }
};

static struct kunit_suite suite = {
	.name = "dmabuf_coherency_link",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit tests of links from devices to DMA heaps");
MODULE_LICENSE("GPL");
