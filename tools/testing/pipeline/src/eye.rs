// SPDX-License-Identifier: GPL-2.0

//! What a display reads, for comparison.

use crate::display::{Display, Surface};
use crate::picture::Picture;
use anyhow::{Context as _, Result, bail, ensure};
use camera::{Layout, Pixels, Size};
use drm::control::dumbbuffer::DumbMapping;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// How it is found out.
pub enum Eye<'a> {
    /// The display writes back what it reads, here.
    WriteBack {
        surface: Surface,
        mapping: DumbMapping<'a>,
        last: Option<u32>,
    },
    /// A display of our tests has a file with what it scans out.
    ScanOut {
        file: File,
        frame: Vec<u8>,
        last: Option<u32>,
    },
    /// QEMU makes a picture of the screen, for the host to compare.
    Screendump {
        monitor: Monitor,
        directory: PathBuf,
    },
}

impl<'a> Eye<'a> {
    /// Sees by what the display writes to a surface with this mapping.
    pub fn write_back(
        display: &Display,
        surface: Surface,
        mapping: DumbMapping<'a>,
    ) -> Result<Self> {
        ensure!(
            display.writes_back(),
            "the display does not write back what it reads: see --monitor"
        );
        Ok(Self::WriteBack {
            surface,
            mapping,
            last: None,
        })
    }

    /// Sees by such a file, with frames of a size.
    pub fn scan_out(file: File, size: Size) -> Self {
        Self::ScanOut {
            file,
            frame: vec![0; Picture::XRGB.bytes(size)],
            last: None,
        }
    }

    /// Sees by pictures in a directory of the host.
    pub fn screendump(monitor: Monitor, directory: &Path) -> Self {
        Self::Screendump {
            monitor,
            directory: directory.to_owned(),
        }
    }

    /// Puts a frame on the screen.
    pub fn show(&self, display: &Display, frame: Surface) -> Result<()> {
        match self {
            Self::WriteBack { surface, .. } => display.show_and_write_back(frame, *surface),
            Self::ScanOut { .. } | Self::Screendump { .. } => display.show(frame),
        }
    }

    /// Looks at it, and fails if a byte is not what the camera has sent.
    pub fn look(&mut self, display: &Display, size: Size, name: &str) -> Result<()> {
        match self {
            Self::WriteBack {
                surface,
                mapping,
                last,
            } => {
                check(mapping.as_ref(), size, last)?;
                display.wait_until_idle(*surface)
            }
            Self::ScanOut { file, frame, last } => {
                file.rewind()?;
                file.read_exact(frame)
                    .context("reading what is scanned out")?;
                check(frame, size, last)
            }
            Self::Screendump { monitor, directory } => {
                monitor.screendump(&directory.join(format!("{name}.png")))
            }
        }
    }

    /// Keeps a picture of it.
    pub fn keep(&self, size: Size, file: &Path) -> Result<()> {
        let bytes = match self {
            Self::WriteBack { mapping, .. } => mapping.as_ref(),
            Self::ScanOut { frame, .. } => frame.as_slice(),
            Self::Screendump { .. } => return Ok(()),
        };
        let rgb: Vec<u8> = bytes[..Picture::XRGB.bytes(size)]
            .chunks_exact(4)
            .flat_map(|p| [p[2], p[1], p[0]])
            .collect();
        let file = File::create(file).with_context(|| file.display().to_string())?;
        let mut encoder = png::Encoder::new(file, size.width(), size.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&rgb)?;
        Ok(())
    }
}

/// Fails unless the first of these bytes are a frame, and a later one than the last.
fn check(bytes: &[u8], size: Size, last: &mut Option<u32>) -> Result<()> {
    let layout = Layout::new(size, Pixels::Xbgr32);
    let bytes = &bytes[..layout.bytes()];
    let number = camera::check(bytes, layout).context("what the display reads")?;
    if last.is_some_and(|last| number <= last) {
        bail!("frame {number} has come again, after frame {last:?}");
    }
    *last = Some(number);
    Ok(())
}

/// QEMU's monitor, at a port of the guest.
pub struct Monitor {
    port: BufReader<File>,
}

impl Monitor {
    /// Opens it.
    pub fn open(port: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(port);
        let mut monitor = Self {
            port: BufReader::new(file.with_context(|| port.display().to_string())?),
        };
        // Refused where a program before us has done that. If something else is
        // wrong, the next call will fail.
        let _ = monitor.call(&json!({"execute": "qmp_capabilities"}));
        Ok(monitor)
    }

    /// Lets QEMU write what is on its first screen to a file of the host.
    fn screendump(&mut self, file: &Path) -> Result<()> {
        self.call(&json!({
            "execute": "screendump",
            "arguments": {"filename": file, "format": "png"}
        }))
    }

    fn call(&mut self, command: &Value) -> Result<()> {
        writeln!(self.port.get_mut(), "{command}")?;
        loop {
            let mut line = String::new();
            self.port.read_line(&mut line)?;
            let answer: Value = serde_json::from_str(&line)
                .with_context(|| format!("expected JSON of QEMU, got {line:?}"))?;
            // Besides answers there are a greeting and events.
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU says: {error}");
            }
        }
    }
}
