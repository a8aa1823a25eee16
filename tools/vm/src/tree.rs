// SPDX-License-Identifier: GPL-2.0

//! The device tree of a machine, and the changes that guests may ask for.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::toolchain;

/// Areas of contiguous memory: a node, its size in MiB, and its phandle. QEMU uses none
/// of these phandles. The kernel gives out memory from the top, so the second area is
/// above 4 GiB if there is memory. The first area must be below that.
const AREAS: [(&str, u32, u32); 2] = [("camera-area", 64, 1), ("display-area", 96, 2)];
const BELOW_4G: [u32; 4] = [0, 0, 1, 0];

/// The display whose buffers come from the second area.
const DISPLAY: &str = "/display";

/// The stream ID of its DMA. No PCI device has it, as there are fewer buses.
const STREAM: u32 = 0xff00;

/// A device tree in a file.
pub(crate) struct Tree(PathBuf);

impl Tree {
    /// Has QEMU write the tree of a machine to a file.
    pub(crate) fn dump(mut machine: Command, to: &Path) -> Result<Self> {
        let path = to.display().to_string().replace(',', ",,");
        toolchain::output(machine.args(["-machine", &format!("dumpdtb={path}")]))?;
        Ok(Self(to.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Declares that PCI devices do not snoop. This overrides the host bridge's own
    /// property, and that of the root, which is for all devices.
    pub(crate) fn make_pci_noncoherent(&self) -> Result<()> {
        let bridge = self.find("pcie@")?;
        let bridge = bridge.context("the machine has no PCI host bridge in its device tree")?;
        self.put(&["-d"], &bridge, "dma-coherent", &[])?;
        self.put(&[], &bridge, "dma-noncoherent", &[])
    }

    /// Reserves two areas of contiguous memory, and adds a display that owns one of them
    /// and does not snoop. If there is an SMMU, the display is behind it.
    pub(crate) fn reserve_areas(&self) -> Result<()> {
        let parent = "/reserved-memory";
        self.put_cells(parent, "#address-cells", &[2])?;
        self.put_cells(parent, "#size-cells", &[2])?;
        self.put(&[], parent, "ranges", &[])?;
        for (index, (name, size, phandle)) in AREAS.into_iter().enumerate() {
            let area = format!("{parent}/{name}");
            self.put_string(&area, "compatible", "shared-dma-pool")?;
            self.put(&[], &area, "reusable", &[])?;
            self.put_cells(&area, "size", &[0, size << 20])?;
            if index == 0 {
                self.put_cells(&area, "alloc-ranges", &BELOW_4G)?;
            }
            self.put_cells(&area, "phandle", &[phandle])?;
        }

        self.put_string(DISPLAY, "compatible", "dmabuf-coherency,test-display")?;
        self.put(&[], DISPLAY, "dma-noncoherent", &[])?;
        self.put_cells(DISPLAY, "memory-region", &[AREAS[1].2])?;
        if let Some(smmu) = self.find("smmuv3@")? {
            let mut get = Command::new("fdtget");
            get.args(["-t", "u"]).arg(&self.0).args([&smmu, "phandle"]);
            let phandle = toolchain::output(&mut get)?;
            self.put_cells(DISPLAY, "iommus", &[phandle.trim().parse()?, STREAM])?;
        }
        Ok(())
    }

    /// The path of the first node below the root whose name starts with `start`.
    fn find(&self, start: &str) -> Result<Option<String>> {
        let nodes = toolchain::output(Command::new("fdtget").arg("-l").arg(&self.0).arg("/"))?;
        let node = nodes.lines().find(|node| node.starts_with(start));
        Ok(node.map(|node| format!("/{node}")))
    }

    fn put_cells(&self, node: &str, property: &str, cells: &[u32]) -> Result<()> {
        let cells: Vec<_> = cells.iter().map(u32::to_string).collect();
        let cells: Vec<_> = cells.iter().map(String::as_str).collect();
        self.put(&["-p", "-t", "u"], node, property, &cells)
    }

    fn put_string(&self, node: &str, property: &str, value: &str) -> Result<()> {
        self.put(&["-p", "-t", "s"], node, property, &[value])
    }

    fn put(&self, options: &[&str], node: &str, property: &str, values: &[&str]) -> Result<()> {
        let mut put = Command::new("fdtput");
        put.args(options).arg(&self.0).args([node, property]);
        toolchain::output(put.args(values))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as QEMU 10 makes it, where the root says, too, that devices snoop.
    const SOURCE: &str = "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>; \
        dma-coherent; pcie@1 { dma-coherent; }; smmuv3@2 { phandle = <77>; }; };";

    fn tree(name: &str) -> Tree {
        let path = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
        let source = path.with_extension("dts");
        std::fs::write(&source, SOURCE).unwrap();
        let mut dtc = Command::new("dtc");
        dtc.args(["-q", "-O", "dtb", "-o"]).arg(&path).arg(&source);
        toolchain::output(&mut dtc).unwrap();
        std::fs::remove_file(source).unwrap();
        Tree(path)
    }

    /// All of a tree, as text.
    fn text(tree: Tree) -> String {
        let mut dtc = Command::new("dtc");
        dtc.args(["-q", "-O", "dts"]).arg(tree.path());
        let text = toolchain::output(&mut dtc).unwrap();
        std::fs::remove_file(tree.path()).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_host_bridge_is_noncoherent_below_a_coherent_root() {
        let tree = tree("noncoherent");
        tree.make_pci_noncoherent().unwrap();
        let text = text(tree);
        assert!(text.contains("pcie@1 { dma-noncoherent; };"), "{text}");
    }

    #[test]
    fn a_display_has_the_second_of_two_areas() {
        let tree = tree("areas");
        tree.reserve_areas().unwrap();
        let text = text(tree);
        for part in [
            "size = <0x00 0x4000000>;",
            "alloc-ranges = <0x00 0x00 0x01 0x00>;",
            "size = <0x00 0x6000000>;",
            "memory-region = <0x02>;",
            "iommus = <0x4d 0xff00>;",
        ] {
            assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        }
    }
}
