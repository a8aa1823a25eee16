// SPDX-License-Identifier: GPL-2.0
/*
 * An accelerator without hardware: a node of the class accel that imports
 * dma-bufs and maps them for DMA, in any number of pieces. It does nothing else
 * with them. QEMU emulates no accelerator that has a driver in Linux.
 */

#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include <drm/drm_accel.h>
#include <drm/drm_drv.h>
#include <drm/drm_gem.h>
#include <drm/drm_gem_shmem_helper.h>

#define NAME		"dmabuf_accel"

DEFINE_DRM_ACCEL_FOPS(fops);

static const struct drm_driver drm_driver = {
	.driver_features = DRIVER_GEM | DRIVER_COMPUTE_ACCEL,
	.fops = &fops,
	.gem_prime_import_sg_table = drm_gem_shmem_prime_import_sg_table,
	.name = NAME,
	.desc = "accelerator without hardware",
	.major = 1,
};

struct accelerator {
	struct drm_device drm;
};

static int probe(struct platform_device *pdev)
{
	struct accelerator *accelerator;
	int ret;

	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	accelerator = devm_drm_dev_alloc(&pdev->dev, &drm_driver,
					 struct accelerator, drm);
	if (IS_ERR(accelerator))
		return PTR_ERR(accelerator);
	platform_set_drvdata(pdev, accelerator);
	return drm_dev_register(&accelerator->drm, 0);
}

static void remove(struct platform_device *pdev)
{
	struct accelerator *accelerator = platform_get_drvdata(pdev);

	drm_dev_unplug(&accelerator->drm);
}

static struct platform_driver driver = {
	.probe = probe,
	.remove = remove,
	.driver = {
		.name = NAME,
	},
};

static struct platform_device *device;

static int __init dmabuf_accel_init(void)
{
	int ret;

	ret = platform_driver_register(&driver);
	if (ret)
		return ret;
	device = platform_device_register_simple(NAME, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device)) {
		platform_driver_unregister(&driver);
		return PTR_ERR(device);
	}
	return 0;
}
module_init(dmabuf_accel_init);

static void __exit dmabuf_accel_exit(void)
{
	platform_device_unregister(device);
	platform_driver_unregister(&driver);
}
module_exit(dmabuf_accel_exit);

MODULE_AUTHOR("dmabuf-coherency maintainers");
MODULE_DESCRIPTION("Accelerator without hardware, for tests of dmabuf_coherency");
MODULE_LICENSE("GPL");
