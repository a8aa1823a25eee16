// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the functions by which a driver chooses a heap for its device.
 * The tests call them from C, as such a driver does. To run the tests, boot
 * with kunit.enable=1 and kunit.autorun=1, and load this module.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/device.h>
#include <linux/device/driver.h>
#include <linux/dma-mapping.h>
#include <linux/dmabuf_coherency.h>
#include <linux/kernfs.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <media/v4l2-dev.h>

/* A heap that accepts every device, and one that needs devices that snoop. */
#define PATIENT		"system-noncoherent"
#define STRICT		"system-coherent"
/*
 * Nothing is known of the devices in these tests. So they are linked to
 * contiguous heaps by default, and to other heaps only if somebody asks for it.
 */
#define USUAL		"default_cma_region"
#define UNUSUAL		"system"

/* The last device number of the range for video devices. */
#define VIDEO_NUMBER	MKDEV(VIDEO_MAJOR, 255)
/* A major number for local use: see Documentation/admin-guide/devices.txt. */
#define MAJOR_FOR_TESTS	240

/*
 * Returns whether @directory/@name exists in the sysfs directory of @dev. If
 * @directory is NULL, looks for @name itself there.
 */
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

/* Creates a device that is bound to a driver and has a DMA mask. */
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
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", USUAL));
	KUNIT_EXPECT_FALSE(test, exists(dev, "dma_heaps", UNUSUAL));
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

	/* This driver forgets to undo its choice. */
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

/*
 * Returns the class of video devices. Looks for a device of the class among all
 * devices, which are in the same kset as platform_bus. Skips the test if there
 * is no video device.
 */
static const struct class *video_class(struct kunit *test)
{
	struct kset *devices = platform_bus.kobj.kset;
	const struct class *found = NULL;
	struct kobject *kobj;

	spin_lock(&devices->list_lock);
	list_for_each_entry(kobj, &devices->list, entry) {
		const struct class *class;

		/* The kset also contains links between devices. */
		if (kobj->ktype != platform_bus.kobj.ktype)
			continue;
		class = kobj_to_dev(kobj)->class;
		if (class && !strcmp(class->name, "video4linux"))
			found = class;
	}
	spin_unlock(&devices->list_lock);
	if (!found)
		kunit_skip(test, "no video device: load vivid");
	return found;
}

/* Creates a device of @class that is not part of a struct video_device. */
static struct device *child_of(struct device *parent, const struct class *class,
			       dev_t number)
{
	return device_create(class, parent, number, NULL,
			     "dmabuf_coherency_link_test");
}

/* The nodes that have not been released. */
static atomic_t nodes = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(released);

static void release_node(struct device *node)
{
	kfree(to_video_device(node));
	if (atomic_dec_and_test(&nodes))
		wake_up(&released);
}

/*
 * A kernel with CONFIG_DEBUG_KOBJECT_RELEASE releases objects seconds later. The
 * function that does it must still be there.
 */
static void wait_for_nodes(struct kunit_suite *suite)
{
	wait_event(released, !atomic_read(&nodes));
}

/*
 * Creates a node of @class in a struct video_device, as for a driver whose
 * queues belong to open files. No hardware or driver is behind it.
 */
static struct device *node_of(struct device *parent, const struct class *class)
{
	struct video_device *video = kzalloc_obj(*video);
	int ret;

	if (!video)
		return ERR_PTR(-ENOMEM);
	video->vfl_type = VFL_TYPE_VIDEO;
	video->device_caps = V4L2_CAP_VIDEO_M2M | V4L2_CAP_STREAMING;
	video->dev.class = class;
	video->dev.parent = parent;
	video->dev.devt = VIDEO_NUMBER;
	video->dev.release = release_node;

	atomic_inc(&nodes);
	device_initialize(&video->dev);
	ret = dev_set_name(&video->dev, "dmabuf_coherency_link_test");
	if (!ret)
		ret = device_add(&video->dev);
	if (ret) {
		put_device(&video->dev);
		return ERR_PTR(ret);
	}
	return &video->dev;
}

static void no_node(struct kunit *test)
{
	const dev_t numbers[] = { 0, MKDEV(MAJOR_FOR_TESTS, 0) };
	const struct class *class = video_class(test);
	struct device *dev = bound_device(test);
	unsigned int i;

	/*
	 * A device without a number has no node in /dev. A device with another
	 * major number is no video device. Neither imports buffers.
	 */
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct device *child = child_of(dev, class, numbers[i]);

		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, child);
		KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
		KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heaps"));
		device_unregister(child);
	}
}

static void pieces(struct kunit *test)
{
	const struct class *class = video_class(test);
	struct device *dev = bound_device(test);
	struct device *node;

	/*
	 * Before there is a node, the number is stored, but there are no links.
	 */
	KUNIT_EXPECT_EQ(test, dma_heap_set_device_pieces(dev, 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_heap_set_device_pieces(dev, DMA_HEAP_PIECES_ANY), 0);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heaps"));
	node = node_of(dev, class);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, node);
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", UNUSUAL));

	KUNIT_EXPECT_EQ(test, dma_heap_set_device_pieces(dev, DMA_HEAP_PIECES_ONE), 0);
	KUNIT_EXPECT_FALSE(test, exists(dev, "dma_heaps", UNUSUAL));
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", USUAL));
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, UNUSUAL), -EOPNOTSUPP);

	device_unregister(node);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heaps"));
	device_release_driver(dev);
	KUNIT_EXPECT_EQ(test, dma_heap_set_device_pieces(dev, DMA_HEAP_PIECES_ANY), -ENODEV);
}

static void node_and_choice(struct kunit *test)
{
	const struct class *class = video_class(test);
	struct device *dev = bound_device(test);
	struct device *node;

	dev_set_dma_coherent(dev);
	node = node_of(dev, class);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, node);
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", USUAL));
	KUNIT_EXPECT_FALSE(test, exists(dev, "dma_heaps", UNUSUAL));

	/*
	 * The choice adds a link to those for the node. Only this link goes
	 * when the choice is undone.
	 */
	KUNIT_EXPECT_EQ(test, dma_heap_create_device_link(dev, UNUSUAL), 0);
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", UNUSUAL));
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", USUAL));
	dma_heap_remove_device_link(dev);
	KUNIT_EXPECT_FALSE(test, exists(dev, "dma_heaps", UNUSUAL));
	KUNIT_EXPECT_TRUE(test, exists(dev, "dma_heaps", USUAL));

	device_unregister(node);
	KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
}

/*
 * Makes the fault injection point number @nth of this thread fail, counted from
 * here; 0 makes none fail. Returns whether the point of the previous call has
 * failed.
 */
static bool fail_nth(unsigned int nth)
{
#ifdef CONFIG_FAULT_INJECTION
	bool hit = !current->fail_nth;

	current->fail_nth = nth;
	return hit;
#else
	return false;
#endif
}

static void no_memory_for_choice(struct kunit *test)
{
	struct device *dev = bound_device(test);
	unsigned int nth = 0, failed = 0;
	bool hit;

	do {
		int ret;

		fail_nth(++nth);
		ret = devm_dma_heap_create_device_link(dev, PATIENT);
		hit = fail_nth(0);
		if (ret) {
			KUNIT_EXPECT_TRUE(test, hit);
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			failed++;
		}
		KUNIT_EXPECT_EQ(test, exists(dev, NULL, "dma_heap"), !ret);
		dma_heap_remove_device_link(dev);
		KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
	} while (hit);
	if (!failed)
		kunit_skip(test, "no fault fails it: see links.c_driver");
}

static void no_memory_for_node(struct kunit *test)
{
	const struct class *class = video_class(test);
	struct device *dev = bound_device(test);
	unsigned int nth = 0, failed = 0;
	bool hit;

	do {
		struct device *node;
		bool linked;

		fail_nth(++nth);
		node = node_of(dev, class);
		hit = fail_nth(0);
		linked = exists(dev, NULL, "dma_heap");
		/* After a failure, there must be all links or none. */
		KUNIT_EXPECT_EQ(test, linked, exists(dev, NULL, "dma_heaps"));
		if (IS_ERR(node)) {
			KUNIT_EXPECT_TRUE(test, hit);
		} else {
			KUNIT_EXPECT_TRUE(test, linked || hit);
			failed += !linked;
			device_unregister(node);
		}
		KUNIT_EXPECT_FALSE(test, exists(dev, NULL, "dma_heap"));
	} while (hit);
	if (!failed)
		kunit_skip(test, "no fault fails it: see links.c_driver");
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
	KUNIT_CASE(no_node),
	KUNIT_CASE(node_and_choice),
	KUNIT_CASE(pieces),
	KUNIT_CASE_SLOW(no_memory_for_choice),
	KUNIT_CASE_SLOW(no_memory_for_node),
	{ }
};

static struct kunit_suite suite = {
	.name = "dmabuf_coherency_link",
	.test_cases = cases,
	.suite_exit = wait_for_nodes,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit tests of links from devices to DMA heaps");
MODULE_LICENSE("GPL");
