// SPDX-License-Identifier: GPL-2.0

//! Screenshots of a guest. They are compared with the frames that its camera has sent,
//! and some are kept to look at.

use anyhow::{Context as _, Result, ensure};
use camera::{Layout, Pixels, Size};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with screenshots of one guest, and the ports that they come through.
pub struct Pictures {
    directory: PathBuf,
}

/// Files in the directory that are no pictures.
const SOCKET: &str = "monitor";
const ARCHIVE: &str = "kept.tar";

impl Pictures {
    /// Ports in the guest: QEMU's monitor, and a port for a tar archive of pictures to keep.
    pub const MONITOR: &str = "/dev/vport*p11";
    pub const KEPT: &str = "/dev/vport*p12";

    /// Makes an empty directory for a guest.
    pub fn of(guest: &str) -> Result<Self> {
        let directory = vm::cache_dir()?.join("pictures").join(guest);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self { directory })
    }

    /// The path of the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The arguments for QEMU. It connects the guest's port to its own monitor.
    pub fn qemu(&self) -> Vec<String> {
        let path = |name| {
            let path = self.directory.join(name).display().to_string();
            path.replace(',', ",,")
        };
        let arguments = [
            "-device",
            "virtio-serial-pci,id=pictures",
            "-chardev",
            &format!("socket,id=monitor,path={},server=on,wait=off", path(SOCKET)),
            "-mon",
            "chardev=monitor,mode=control",
            "-chardev",
            &format!("socket,id=guest,path={}", path(SOCKET)),
            "-device",
            "virtserialport,bus=pictures.0,nr=11,chardev=guest",
            "-chardev",
            &format!("file,id=kept,path={}", path(ARCHIVE)),
            "-device",
            "virtserialport,bus=pictures.0,nr=12,chardev=kept",
        ];
        arguments.map(str::to_owned).to_vec()
    }

    /// Compares the screenshots of a way with the frames that the camera has sent. Each
    /// screenshot must be a frame, byte for byte, and later than the one before it. Returns
    /// how many there are. Keeps the first, the last, and one in the middle.
    pub fn compare(&self, display: &str, way: &str, size: Size) -> Result<usize> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&format!("{way}-")) {
                files.push(path);
            }
        }
        files.sort();
        let mut last = None;
        for file in &files {
            let number = number(file, size).with_context(|| file.display().to_string())?;
            ensure!(
                last.is_none_or(|last| number > last),
                "{}: frame {number} is on the screen after frame {last:?}",
                file.display()
            );
            last = Some(number);
        }
        for (index, file) in files.iter().enumerate() {
            if [0, files.len() / 2, files.len() - 1].contains(&index) {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                fs::rename(file, self.directory.join(format!("{display}-{name}")))?;
            } else {
                fs::remove_file(file)?;
            }
        }
        Ok(files.len())
    }

    /// Unpacks the pictures that the guest has kept.
    pub fn unpack(&self) -> Result<()> {
        let archive = self.directory.join(ARCHIVE);
        if fs::metadata(&archive)?.len() > 0 {
            let tar = Command::new("tar")
                .arg("-xf")
                .arg(&archive)
                .arg("-C")
                .arg(&self.directory)
                .output()
                .context("tar")?;
            ensure!(
                tar.status.success(),
                "{}",
                String::from_utf8_lossy(&tar.stderr)
            );
        }
        fs::remove_file(archive)?;
        Ok(())
    }
}

/// Reads the number of the frame on a screenshot, if all of it is that frame.
fn number(file: &Path, size: Size) -> Result<u32> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(file)?)).read_info()?;
    let mut rgb = vec![0; reader.output_buffer_size().context("a picture too large")?];
    let info = reader.next_frame(&mut rgb)?;
    ensure!(
        (info.width, info.height) == (size.width(), size.height())
            && info.color_type == png::ColorType::Rgb,
        "a picture of {}x{} in {:?} instead of {size}",
        info.width,
        info.height,
        info.color_type
    );
    for pixel in rgb.chunks_exact_mut(3) {
        pixel.swap(0, 2);
    }
    Ok(camera::check(&rgb, Layout::new(size, Pixels::Bgr24))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size::new(128, 64).unwrap();

    /// A directory with screenshots of frames; the last one has a wrong byte.
    fn pictures(name: &str, numbers: &[u32], spoil: bool) -> Pictures {
        let directory = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for (index, number) in numbers.iter().enumerate() {
            let mut rgb = camera::frame(*number, Layout::new(SIZE, Pixels::Bgr24));
            for pixel in rgb.chunks_exact_mut(3) {
                pixel.swap(0, 2);
            }
            if spoil && index + 1 == numbers.len() {
                rgb[64 * 64] ^= 1;
            }
            let file = File::create(directory.join(format!("picked-{index:04}.png"))).unwrap();
            let mut encoder = png::Encoder::new(file, SIZE.width(), SIZE.height());
            encoder.set_color(png::ColorType::Rgb);
            let mut writer = encoder.write_header().unwrap();
            writer.write_image_data(&rgb).unwrap();
        }
        Pictures { directory }
    }

    fn compare(name: &str, numbers: &[u32], spoil: bool) -> Result<usize> {
        let pictures = pictures(name, numbers, spoil);
        let result = pictures.compare("vkms", "picked", SIZE);
        fs::remove_dir_all(pictures.directory()).unwrap();
        result
    }

    #[test]
    fn only_right_screenshots_pass() {
        assert_eq!(compare("right", &[3, 4, 7, 8], false).unwrap(), 4);
        assert!(compare("spoilt", &[3, 4, 7, 8], true).is_err());
        assert!(compare("again", &[3, 4, 4], false).is_err());
    }
}
