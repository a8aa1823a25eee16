// SPDX-License-Identifier: GPL-2.0

//! A display: one screen as large as a frame, set by atomic commits. What was
//! made for it goes when its node is closed.

use crate::picture::Picture;
use anyhow::{Context as _, Result, bail, ensure};
use camera::Size;
use drm::buffer::{Buffer as _, DrmFourcc, DrmModifier, Handle, PlanarBuffer};
use drm::control::atomic::AtomicModeReq;
use drm::control::dumbbuffer::{DumbBuffer, DumbMapping};
use drm::control::{
    AtomicCommitFlags, Device as _, FbCmd2Flags, PlaneType, RawResourceHandle, ResourceHandle,
    connector, crtc, framebuffer, plane, property,
};
use drm::{ClientCapability, Device as _};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How many seconds a frame may take to be written back. Only something broken
/// takes so long.
const PATIENCE: i64 = 10;

/// An open primary node.
struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

/// The properties of an object, by name.
struct Properties {
    object: RawResourceHandle,
    handles: HashMap<String, property::Handle>,
}

impl Properties {
    fn of<H: ResourceHandle>(card: &Card, object: H) -> Result<Self> {
        let properties = card.get_properties(object)?.as_hashmap(card)?;
        let handles = properties
            .into_iter()
            .map(|(name, info)| (name, info.handle()));
        Ok(Self {
            object: object.into(),
            handles: handles.collect(),
        })
    }

    fn set(&self, request: &mut AtomicModeReq, name: &str, value: u64) -> Result<()> {
        let handle = self.handles.get(name);
        let handle = handle.with_context(|| format!("the display has no property {name}"))?;
        request.add_raw_property(self.object, *handle, value);
        Ok(())
    }
}

/// A display with its only screen.
pub struct Display {
    card: Card,
    node: PathBuf,
    size: Size,
    crtc: crtc::Handle,
    crtc_properties: Properties,
    connector: Properties,
    plane: Properties,
    writeback: Option<Properties>,
    /// Whether the screen is on.
    lit: Cell<bool>,
}

impl Display {
    /// Opens the display of a driver, for frames of a size.
    pub fn open(driver: &str, size: Size) -> Result<Self> {
        let (card, node) = find(driver)?;
        card.set_client_capability(ClientCapability::UniversalPlanes, true)?;
        card.set_client_capability(ClientCapability::Atomic, true)
            .with_context(|| format!("{driver} has no atomic commits"))?;
        card.set_client_capability(ClientCapability::WritebackConnectors, true)?;
        let resources = card.resource_handles()?;
        let crtc = *resources.crtcs().first().context("no CRTC")?;
        let plane = primary_plane(&card, &resources, crtc)?;
        let mut connectors = HashMap::new();
        for handle in resources.connectors() {
            let interface = card.get_connector(*handle, false)?.interface();
            let is_writeback = interface == connector::Interface::Writeback;
            connectors.entry(is_writeback).or_insert(*handle);
        }
        let screen = *connectors.get(&false).context("no connector")?;
        let writeback = connectors.get(&true);
        Ok(Self {
            crtc_properties: Properties::of(&card, crtc)?,
            connector: Properties::of(&card, screen)?,
            plane: Properties::of(&card, plane)?,
            writeback: writeback
                .map(|handle| Properties::of(&card, *handle))
                .transpose()?,
            card,
            node,
            size,
            crtc,
            lit: Cell::new(false),
        })
    }

    /// Its node.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Imports a dma-buf that has a frame at its beginning, to show it in place.
    pub fn import(&self, buffer: impl AsFd, picture: Picture) -> Result<Surface, Errno> {
        let import = || {
            let handle = self.card.prime_fd_to_buffer(buffer.as_fd())?;
            let frame = Frame {
                handle,
                size: (self.size.width(), self.size.height()),
                format: picture.drm(),
                pitch: picture.row(self.size) as u32,
            };
            self.surface(&frame)
        };
        import().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// A buffer of the display's own, for the CPU.
    pub fn own(&self, picture: Picture) -> Result<(DumbBuffer, Surface)> {
        let bits = 8 * picture.per_pixel() as u32;
        let size = (self.size.width(), self.size.height());
        let buffer = self
            .card
            .create_dumb_buffer(size, picture.drm(), bits)
            .context("the display has no buffers of its own")?;
        ensure!(
            buffer.pitch() as usize == picture.row(self.size),
            "rows of {} need padding: take a width that is a multiple of 64",
            self.size
        );
        let surface = self.surface(&Frame {
            handle: buffer.handle(),
            size: buffer.size(),
            format: buffer.format(),
            pitch: buffer.pitch(),
        })?;
        Ok((buffer, surface))
    }

    /// Maps such a buffer.
    pub fn map<'a>(&self, buffer: &'a mut DumbBuffer) -> Result<DumbMapping<'a>> {
        Ok(self.card.map_dumb_buffer(buffer)?)
    }

    fn surface(&self, frame: &Frame) -> io::Result<Surface> {
        let flags = FbCmd2Flags::empty();
        self.card.add_planar_framebuffer(frame, flags).map(Surface)
    }

    /// Puts a frame on the screen, and returns when it is there.
    pub fn show(&self, frame: Surface) -> Result<()> {
        self.commit(frame, None).map(drop)
    }

    /// The same, and lets the display write what it reads to another buffer.
    /// Returns when that is done.
    pub fn show_and_write_back(&self, frame: Surface, to: Surface) -> Result<()> {
        let done = self.commit(frame, Some(to))?;
        let done = done.context("the display has written nothing back")?;
        let limit = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut [PollFd::new(&done, PollFlags::IN)], Some(&limit))? == 0 {
            bail!("the display has written nothing back for {PATIENCE} seconds");
        }
        Ok(())
    }

    /// Waits until the kernel is done with what was written to a surface: vkms of
    /// Linux 7.3 cleans up a while after it has said that the writing is done, and
    /// switches the next one off if that has begun by then.
    pub fn wait_until_idle(&self, surface: Surface) -> Result<()> {
        let file = self.debugfs("framebuffer")?;
        let wanted = format!("framebuffer[{}]:", u32::from(surface.0));
        let end = Instant::now() + Duration::from_secs(PATIENCE as u64);
        while Instant::now() < end {
            let list = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let mut lines = list.lines().skip_while(|line| *line != wanted);
            let references = lines.find_map(|line| line.strip_prefix("\trefcount="));
            if references == Some("1") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("the display has not let go of a buffer for {PATIENCE} seconds")
    }

    /// A file in debugfs that it may have.
    fn debugfs(&self, name: &str) -> Result<PathBuf> {
        let minor = rustix::fs::minor(rustix::fs::fstat(&self.card)?.st_rdev);
        Ok(format!("/sys/kernel/debug/dri/{minor}/{name}").into())
    }

    /// What it scans out, if it tells.
    pub fn scan_out(&self) -> Result<Option<File>> {
        match File::open(self.debugfs("frame")?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(file?)),
        }
    }

    /// Whether it can write back what it reads.
    pub fn writes_back(&self) -> bool {
        self.writeback.is_some()
    }

    fn commit(&self, frame: Surface, to: Option<Surface>) -> Result<Option<OwnedFd>> {
        let mut request = AtomicModeReq::new();
        let mut flags = AtomicCommitFlags::empty();
        if !self.lit.get() {
            flags |= AtomicCommitFlags::ALLOW_MODESET;
            self.light(&mut request)?;
        }
        self.plane
            .set(&mut request, "FB_ID", u32::from(frame.0).into())?;
        let mut fence: RawFd = -1;
        if let (Some(to), Some(writeback)) = (to, &self.writeback) {
            let address = (&raw mut fence).expose_provenance() as u64;
            writeback.set(&mut request, "WRITEBACK_FB_ID", u32::from(to.0).into())?;
            writeback.set(&mut request, "WRITEBACK_OUT_FENCE_PTR", address)?;
        }
        self.card
            .atomic_commit(flags, request)
            .context("the atomic commit")?;
        self.lit.set(true);
        // The kernel has written there, behind the compiler's back.
        // SAFETY: It is a variable of this function.
        let fence = unsafe { (&raw const fence).read_volatile() };
        // SAFETY: If there is a descriptor, the kernel has just made it for us.
        Ok((fence >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fence) }))
    }

    /// What it takes to switch the screen on.
    fn light(&self, request: &mut AtomicModeReq) -> Result<()> {
        let crtc = u32::from(self.crtc).into();
        let mode = self.card.create_property_blob(&mode(self.size))?;
        self.crtc_properties.set(request, "MODE_ID", mode.into())?;
        self.crtc_properties.set(request, "ACTIVE", 1)?;
        for connector in [&self.connector].into_iter().chain(&self.writeback) {
            connector.set(request, "CRTC_ID", crtc)?;
        }
        let (width, height) = (self.size.width().into(), self.size.height().into());
        for (name, value) in [
            ("CRTC_ID", crtc),
            ("CRTC_X", 0),
            ("CRTC_Y", 0),
            ("CRTC_W", width),
            ("CRTC_H", height),
            ("SRC_X", 0),
            ("SRC_Y", 0),
            ("SRC_W", width << 16),
            ("SRC_H", height << 16),
        ] {
            self.plane.set(request, name, value)?;
        }
        Ok(())
    }
}

/// Opens the node of a driver's display.
fn find(driver: &str) -> Result<(Card, PathBuf)> {
    let entries = fs::read_dir("/dev/dri").context("there is no display: modprobe vkms")?;
    let mut nodes = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("card") {
            nodes.push(entry.path());
        }
    }
    nodes.sort();
    for node in nodes {
        let file = File::options().read(true).write(true).open(&node)?;
        let card = Card(file);
        if card.get_driver()?.name().to_string_lossy() == driver {
            return Ok((card, node));
        }
    }
    bail!("there is no display of {driver}: is its module loaded?")
}

fn primary_plane(
    card: &Card,
    resources: &drm::control::ResourceHandles,
    crtc: crtc::Handle,
) -> Result<plane::Handle> {
    for plane in card.plane_handles()? {
        let crtcs = resources.filter_crtcs(card.get_plane(plane)?.possible_crtcs());
        if !crtcs.contains(&crtc) {
            continue;
        }
        for (&property, &value) in &card.get_properties(plane)? {
            let is_type = card.get_property(property)?.name().to_bytes() == b"type";
            if is_type && value == PlaneType::Primary as u64 {
                return Ok(plane);
            }
        }
    }
    bail!("the display has no primary plane")
}

/// A mode of 60 Hz, with blanks that no cable would do.
fn mode(size: Size) -> drm_ffi::drm_mode_modeinfo {
    let (width, height) = (size.width() as u16, size.height() as u16);
    let (total_width, total_height) = (width + 48, height + 6);
    drm_ffi::drm_mode_modeinfo {
        clock: u32::from(total_width) * u32::from(total_height) * 60 / 1000,
        hdisplay: width,
        hsync_start: width + 16,
        hsync_end: width + 32,
        htotal: total_width,
        vdisplay: height,
        vsync_start: height + 2,
        vsync_end: height + 4,
        vtotal: total_height,
        vrefresh: 60,
        ..Default::default()
    }
}

/// What can be put on the screen of its display.
#[derive(Clone, Copy)]
pub struct Surface(framebuffer::Handle);

/// What of a buffer is a frame.
struct Frame {
    handle: Handle,
    size: (u32, u32),
    format: DrmFourcc,
    pitch: u32,
}

impl PlanarBuffer for Frame {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn format(&self) -> DrmFourcc {
        self.format
    }

    fn modifier(&self) -> Option<DrmModifier> {
        None
    }

    fn pitches(&self) -> [u32; 4] {
        [self.pitch, 0, 0, 0]
    }

    fn handles(&self) -> [Option<Handle>; 4] {
        [Some(self.handle), None, None, None]
    }

    fn offsets(&self) -> [u32; 4] {
        [0; 4]
    }
}
