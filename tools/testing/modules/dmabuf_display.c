// SPDX-License-Identifier: GPL-2.0
/*
 * Displays without hardware that import dma-bufs as the display of a board may
 * do it. The device that does the DMA may differ from the parent of the DRM
 * node. It may snoop or not, reach few addresses only, and accept only one
 * piece of memory.
 *
 * There is one display for each element of the parameter "helpers", and one for
 * each node "dmabuf-coherency,test-display" of a device tree. The properties of
 * such a node correspond to the parameters. The file dri/<device>/frame in
 * debugfs shows what a display scans out: the bytes at the DMA addresses that
 * its DMA device was given. These may be in a bounce buffer.
 */

#include <linux/debugfs.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>
#include <linux/property.h>
#include <linux/uaccess.h>

#include <drm/drm_atomic_helper.h>
#include <drm/drm_drv.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_framebuffer.h>
#include <drm/drm_gem_dma_helper.h>
#include <drm/drm_gem_framebuffer_helper.h>
#include <drm/drm_gem_shmem_helper.h>
#include <drm/drm_managed.h>
#include <drm/drm_modeset_helper_vtables.h>
#include <drm/drm_probe_helper.h>
#include <drm/drm_simple_kms_helper.h>

#define NAME		"dmabuf_display"
#define MAX_DISPLAYS	8
#define MAX_SIZE	8192

static char *helpers[MAX_DISPLAYS];
static unsigned int displays;
module_param_array(helpers, charp, &displays, 0444);
MODULE_PARM_DESC(helpers, "For each display, helpers of its buffers: shmem, dma, or dma-vmap. The latter two take one piece of memory only");

static bool own_dma_device[MAX_DISPLAYS];
module_param_array(own_dma_device, bool, NULL, 0444);
MODULE_PARM_DESC(own_dma_device, "For each display, whether a device of its own does the DMA (default: no)");

static int snoops[MAX_DISPLAYS] = { [0 ... MAX_DISPLAYS - 1] = -1 };
module_param_array(snoops, int, NULL, 0444);
MODULE_PARM_DESC(snoops, "For each display, whether the device with the node snoops: 1 or 0 (default: as the bus has it)");

static int dma_snoops[MAX_DISPLAYS] = { [0 ... MAX_DISPLAYS - 1] = -1 };
module_param_array(dma_snoops, int, NULL, 0444);
MODULE_PARM_DESC(dma_snoops, "The same for the device that does the DMA");

static unsigned int dma_bits[MAX_DISPLAYS] = { [0 ... MAX_DISPLAYS - 1] = 64 };
module_param_array(dma_bits, uint, NULL, 0444);
MODULE_PARM_DESC(dma_bits, "For each display, the address bits of the device that does the DMA (default: 64)");

static struct platform_device *devices[MAX_DISPLAYS];

struct display {
	struct drm_device drm;
	struct drm_simple_display_pipe pipe;
	struct drm_connector connector;
};

DEFINE_DRM_GEM_FOPS(fops);

#define DRIVER(helpers)								\
	.driver_features = DRIVER_GEM | DRIVER_MODESET | DRIVER_ATOMIC,		\
	.fops = &fops,								\
	.name = "display-" helpers,						\
	.desc = "Display without hardware, for tests of dmabuf_coherency"

static const struct drm_driver shmem_driver = {
	DRIVER("shmem"),
	.dumb_create = drm_gem_shmem_dumb_create,
	.gem_prime_import_sg_table = drm_gem_shmem_prime_import_sg_table,
};

static const struct drm_driver dma_driver = {
	DRIVER("dma"),
	DRM_GEM_DMA_DRIVER_OPS,
};

static const struct drm_driver dma_vmap_driver = {
	DRIVER("dma-vmap"),
	DRM_GEM_DMA_DRIVER_OPS_VMAP,
};

static const char * const helper_names[] = { "shmem", "dma", "dma-vmap" };
static const struct drm_driver * const drivers[] = {
	&shmem_driver, &dma_driver, &dma_vmap_driver,
};

/* Returns the DMA address of the byte at @offset in a buffer. */
static dma_addr_t bus_address(struct drm_gem_object *obj, size_t offset)
{
	struct scatterlist *sg;
	struct sg_table *sgt;
	int i;

	if (obj->dev->driver != &shmem_driver)
		return to_drm_gem_dma_obj(obj)->dma_addr + offset;

	sgt = drm_gem_shmem_get_pages_sgt(to_drm_gem_shmem_obj(obj));
	if (IS_ERR(sgt))
		return DMA_MAPPING_ERROR;
	for_each_sgtable_dma_sg(sgt, sg, i) {
		if (offset < sg_dma_len(sg))
			return sg_dma_address(sg) + offset;
		offset -= sg_dma_len(sg);
	}
	return DMA_MAPPING_ERROR;
}

/*
 * Reads from the buffer that is on the screen, at most up to the end of the
 * page.
 */
static ssize_t frame_read(struct file *file, char __user *to, size_t count,
			  loff_t *pos)
{
	struct display *display = file->private_data;
	struct device *dev = drm_dev_dma_dev(&display->drm);
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	struct drm_plane *plane = &display->pipe.plane;
	struct drm_framebuffer *fb;
	phys_addr_t phys;
	dma_addr_t addr;

	drm_modeset_lock(&plane->mutex, NULL);
	fb = plane->state->fb;
	if (!fb || *pos >= fb->obj[0]->size) {
		count = 0;
		goto out;
	}

	count = min(count, PAGE_SIZE - offset_in_page(*pos));
	addr = bus_address(fb->obj[0], *pos);
	phys = domain ? iommu_iova_to_phys(domain, addr) : dma_to_phys(dev, addr);
	if (addr == DMA_MAPPING_ERROR || !pfn_valid(PHYS_PFN(phys)) ||
	    copy_to_user(to, phys_to_virt(phys), count)) {
		count = -EFAULT;
		goto out;
	}
	*pos += count;
out:
	drm_modeset_unlock(&plane->mutex);
	return count;
}

static const struct file_operations frame_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = frame_read,
	.llseek = default_llseek,
};

static int get_modes(struct drm_connector *connector)
{
	static const struct drm_display_mode mode = {
		DRM_MODE_INIT(60, 3840, 2160, 0, 0),
	};

	return drm_connector_helper_get_modes_fixed(connector, &mode);
}

static const struct drm_connector_helper_funcs connector_helper_funcs = {
	.get_modes = get_modes,
};

static const struct drm_connector_funcs connector_funcs = {
	.reset = drm_atomic_helper_connector_reset,
	.fill_modes = drm_helper_probe_single_connector_modes,
	.atomic_duplicate_state = drm_atomic_helper_connector_duplicate_state,
	.atomic_destroy_state = drm_atomic_helper_connector_destroy_state,
};

static const struct drm_mode_config_funcs mode_config_funcs = {
	.fb_create = drm_gem_fb_create,
	.atomic_check = drm_atomic_helper_check,
	.atomic_commit = drm_atomic_helper_commit,
};

static int display_init(struct display *display)
{
	static const u32 formats[] = { DRM_FORMAT_XRGB8888 };
	struct drm_device *drm = &display->drm;
	int ret;

	ret = drmm_mode_config_init(drm);
	if (ret)
		return ret;
	drm->mode_config.funcs = &mode_config_funcs;
	drm->mode_config.max_width = MAX_SIZE;
	drm->mode_config.max_height = MAX_SIZE;

	drm_connector_helper_add(&display->connector, &connector_helper_funcs);
	ret = drmm_connector_init(drm, &display->connector, &connector_funcs,
				  DRM_MODE_CONNECTOR_VIRTUAL, NULL);
	if (ret)
		return ret;
	ret = drm_simple_display_pipe_init(drm, &display->pipe, NULL, formats,
					   ARRAY_SIZE(formats), NULL,
					   &display->connector);
	if (ret)
		return ret;

	drm_mode_config_reset(drm);
	debugfs_create_file("frame", 0400, drm->debugfs_root, display,
			    &frame_fops);
	return drm_dev_register(drm, 0);
}

static void set_snoops(struct device *dev, struct device *of, const char *name)
{
	u32 value;

	if (device_property_read_u32(of, name, &value))
		return;
	if (value == 1)
		dev_set_dma_coherent(dev);
	else if (value == 0)
		dev_clear_dma_coherent(dev);
}

static void unregister(void *pdev)
{
	platform_device_unregister(pdev);
}

/* Returns the device that does the DMA of @dev. Its DMA mask is not set yet. */
static struct device *dma_device(struct device *dev)
{
	struct platform_device *pdev;
	int ret;

	if (!device_property_read_bool(dev, "own-dma-device"))
		return dev;

	pdev = platform_device_register_resndata(dev, NAME "_dma",
						 PLATFORM_DEVID_AUTO, NULL, 0,
						 NULL, 0);
	if (IS_ERR(pdev))
		return ERR_CAST(pdev);
	ret = devm_add_action_or_reset(dev, unregister, pdev);
	return ret ? ERR_PTR(ret) : &pdev->dev;
}

static int probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	const char *helper = "dma";
	struct display *display;
	struct device *dma_dev;
	u32 bits = 64;
	int ret;

	device_property_read_string(dev, "helpers", &helper);
	ret = match_string(helper_names, ARRAY_SIZE(helper_names), helper);
	if (ret < 0)
		return ret;
	display = devm_drm_dev_alloc(dev, drivers[ret], struct display, drm);
	if (IS_ERR(display))
		return PTR_ERR(display);
	platform_set_drvdata(pdev, display);

	dma_dev = dma_device(dev);
	if (IS_ERR(dma_dev))
		return PTR_ERR(dma_dev);
	drm_dev_set_dma_dev(&display->drm, dma_dev);
	set_snoops(dev, dev, "snoops");
	set_snoops(dma_dev, dev, "dma-snoops");
	device_property_read_u32(dev, "dma-bits", &bits);
	ret = dma_set_mask_and_coherent(dma_dev, DMA_BIT_MASK(bits));
	if (ret)
		return ret;
	if (of_property_present(dev->of_node, "memory-region")) {
		ret = devm_of_reserved_mem_device_init(dev);
		if (ret)
			return ret;
	}
	return display_init(display);
}

static void remove(struct platform_device *pdev)
{
	struct display *display = platform_get_drvdata(pdev);

	drm_dev_unplug(&display->drm);
	drm_atomic_helper_shutdown(&display->drm);
}

static const struct of_device_id of_match[] = {
	{ .compatible = "dmabuf-coherency,test-display" },
	{ }
};
MODULE_DEVICE_TABLE(of, of_match);

static struct platform_driver driver = {
	.probe = probe,
	.remove = remove,
	.driver = {
		.name = NAME,
		.of_match_table = of_match,
	},
};

static struct platform_device *add_display(unsigned int i)
{
	const struct property_entry own_dma_device_entry =
		PROPERTY_ENTRY_BOOL("own-dma-device");
	const struct property_entry properties[] = {
		PROPERTY_ENTRY_STRING("helpers", helpers[i]),
		PROPERTY_ENTRY_U32("snoops", snoops[i]),
		PROPERTY_ENTRY_U32("dma-snoops", dma_snoops[i]),
		PROPERTY_ENTRY_U32("dma-bits", dma_bits[i]),
		own_dma_device[i] ? own_dma_device_entry : (struct property_entry) { },
		{ }
	};
	const struct platform_device_info info = {
		.name = NAME,
		.id = i,
		.properties = properties,
	};

	return platform_device_register_full(&info);
}

static void remove_displays(void)
{
	unsigned int i;

	for (i = 0; i < displays; i++)
		platform_device_unregister(devices[i]);
	platform_driver_unregister(&driver);
}

static int __init dmabuf_display_init(void)
{
	unsigned int i;
	int ret;

	ret = platform_driver_register(&driver);
	if (ret)
		return ret;
	for (i = 0; i < displays; i++) {
		devices[i] = add_display(i);
		if (IS_ERR(devices[i])) {
			ret = PTR_ERR(devices[i]);
			remove_displays();
			return ret;
		}
	}
	return 0;
}
module_init(dmabuf_display_init);
module_exit(remove_displays);

MODULE_AUTHOR("dmabuf-coherency maintainers");
MODULE_DESCRIPTION("Displays without hardware, for tests of dmabuf_coherency");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
