// SPDX-License-Identifier: GPL-2.0

//! Video captured into buffers of the heap.

use super::Test;
use super::import::may_use;
use crate::bufinfo;
use crate::camera::Camera;
use crate::expect::{expect_errno, outcome, skip};
use crate::frames::{ByCamera, ByDma, Seen, watch};
use crate::heap::{Buffer, Heap};
use crate::importer::{Importer as _, observe};
use crate::mapping::Mapping;
use crate::options::Options;
use crate::reach::{Answer, answer, bouncing_is_forced, reach};
use crate::test_importer::Setup;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;

pub const TESTS: &[Test] = &[
    Test::new(
        "video.stream",
        "a camera writes frames into buffers, and nothing after them",
        stream,
    ),
    Test::new(
        "video.one_block",
        "a device gets a frame of nearly 4 MiB of contiguous memory as one block",
        one_block,
    ),
    Test::new(
        "video.closed_early",
        "buffers that are closed while they are queued are filled, and then freed",
        closed_early,
    ),
    Test::new(
        "video.too_small",
        "a buffer smaller than a frame is refused",
        too_small,
    ),
    Test::new("video.brackets", "frames are right with brackets", brackets),
    Test::new(
        "video.no_brackets",
        "without brackets frames are right if the heap's mode promises it",
        no_brackets,
    ),
    Test::new(
        "video.forced_bounce",
        "with swiotlb=force a device that maps gets an error",
        forced_bounce,
    ),
];

/// A byte that fills no whole row of a test picture.
const CANARY: u8 = 0xa5;

/// Cameras that the heap under test must serve, by attaching or by the CPU. If all DMA bounces, frames
/// are so small that one bounce buffer is enough. Several bounce buffers are one piece only by chance.
fn cameras(options: &Options) -> Result<Vec<Camera>> {
    let bounces = bouncing_is_forced()?;
    let mut cameras = Vec::new();
    let mut found = false;
    for mut camera in Camera::all()? {
        found = true;
        if may_use(options, &camera)? {
            if bounces {
                camera.resize(320, 180)?;
            }
            cameras.push(camera);
        }
    }
    match (found, cameras.is_empty()) {
        (false, _) => skip("no video capture device: modprobe vivid gives one"),
        (true, true) => skip("no video capture device here that this heap suits"),
        _ => Ok(cameras),
    }
}

/// Buffers for frames, and their mappings, filled with the canary.
fn canaries(heap: &Heap, count: u32, size: usize) -> Result<Vec<(Buffer, Mapping)>> {
    (0..count)
        .map(|_| {
            let buffer = heap.alloc(size)?;
            let mapping = buffer.map()?;
            buffer.bracketed(|| mapping.fill(CANARY))?;
            Ok((buffer, mapping))
        })
        .collect()
}

fn stream(options: &Options) -> Result<()> {
    if bouncing_is_forced()? {
        return skip(
            "everything bounces here, and the camera writes by the CPU: see video.brackets",
        );
    }
    for mut camera in cameras(options)? {
        let what = camera.describe();
        let format = camera.resize(640, 480)?;
        let video = &camera.video;
        let count = video.request_buffers(4)?;
        let size = (format.size as usize).next_power_of_two();
        let buffers = canaries(&options.heap()?, count, size)?;
        for (index, (buffer, _)) in buffers.iter().enumerate() {
            let call = || format!("{what}: VIDIOC_QBUF of buffer {index}");
            video.queue(index as u32, buffer).with_context(call)?;
        }
        video
            .start()
            .with_context(|| format!("{what}: VIDIOC_STREAMON"))?;
        let mut frames = Vec::new();
        for number in 0..3 * count {
            let frame = video
                .dequeue()
                .with_context(|| format!("{what}: waiting for frame {number}"))?;
            let (buffer, mapping) = &buffers[frame.index as usize];
            let picture = buffer.bracketed(|| {
                let mut picture = vec![0; format.size as usize];
                mapping.read(0, &mut picture);
                let beyond = mapping.first_other_than(CANARY, format.size as usize);
                mapping.fill(CANARY);
                (picture, beyond)
            })?;
            let (picture, beyond) = picture;
            ensure!(
                frame.bytes_used == picture.len(),
                "{what}: expected a frame of {} bytes, got {}",
                picture.len(),
                frame.bytes_used
            );
            expect_picture(&picture, format.bytes_per_line as usize)
                .with_context(|| format!("{what}: frame {number} in buffer {}", frame.index))?;
            ensure!(
                beyond.is_none(),
                "{what}: expected nothing to be written after the frame, got {beyond:x?}"
            );
            frames.push(picture);
            video.queue(frame.index, buffer)?;
        }
        video.stop()?;
        video.request_buffers(0)?;
        ensure!(
            frames.windows(2).any(|pair| pair[0] != pair[1]),
            "{what}: expected frames to differ, got the same frame {} times",
            frames.len()
        );
        for (buffer, _) in &buffers {
            let attached = bufinfo::attached(buffer.inode())?;
            ensure!(
                attached.is_empty(),
                "{what}: still attached after the end: {attached:?}"
            );
        }
    }
    Ok(())
}

/// Fails if a row was not written, or if all rows show nothing.
fn expect_picture(picture: &[u8], bytes_per_line: usize) -> Result<()> {
    for (row, bytes) in picture.chunks(bytes_per_line).enumerate() {
        ensure!(
            bytes.iter().any(|byte| *byte != CANARY),
            "row {row} of the frame was not written"
        );
    }
    ensure!(
        picture.iter().any(|byte| *byte != picture[0]),
        "expected a picture, got {:#x} everywhere",
        picture[0]
    );
    Ok(())
}

fn one_block(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    if bouncing_is_forced()? {
        return skip(
            "everything bounces here, and several bounce buffers are one piece only by chance",
        );
    }
    let (_, mode) = options
        .heap
        .rsplit_once('-')
        .context("a heap without a mode")?;
    let name = format!("default_cma_region-{mode}");
    let Ok(heap) = Heap::open(&name) else {
        return skip(format!("there is no heap {name}, which promises one block"));
    };
    for mut camera in cameras(options)? {
        let format = camera.resize(1920, 1080)?;
        let what = format!("{}, {}x{}", camera.describe(), format.width, format.height);
        // Exactly as large as the frame, so that the last page counts too.
        let buffer = heap.alloc(format.size as usize)?;
        camera
            .import(&buffer)
            .with_context(|| format!("{what}: VIDIOC_QBUF"))?;
    }
    Ok(())
}

fn closed_early(options: &Options) -> Result<()> {
    for camera in cameras(options)? {
        let what = camera.describe();
        let video = &camera.video;
        let count = video.request_buffers(3)?;
        let mut mappings = Vec::new();
        for (index, (buffer, mapping)) in canaries(&options.heap()?, count, camera.buffer_size())?
            .into_iter()
            .enumerate()
        {
            video
                .queue(index as u32, &buffer)
                .with_context(|| what.clone())?;
            mappings.push(mapping);
        }
        video.start()?;
        for _ in 0..count {
            let frame = video.dequeue().with_context(|| what.clone())?;
            let written = mappings[frame.index as usize].first_other_than(CANARY, 0);
            ensure!(
                written.is_some_and(|(offset, _)| offset < frame.bytes_used),
                "{what}: nothing was captured into buffer {}",
                frame.index
            );
        }
        // There is no VIDIOC_STREAMOFF, as closing the node ends the stream.
    }
    Ok(())
}

fn too_small(options: &Options) -> Result<()> {
    for mut camera in cameras(options)? {
        let format = camera.resize(640, 480)?;
        let what = camera.describe();
        let buffer = options.heap()?.alloc(format.size as usize / 2)?;
        match camera.import(&buffer).map(drop) {
            Err(Errno::INVAL | Errno::FAULT) => (),
            other => bail!("{what}: expected EINVAL, got {}", outcome(&other)),
        }
        let attached = bufinfo::attached(buffer.inode())?;
        ensure!(
            attached.is_empty(),
            "{what}: it was refused, but is still attached: {attached:?}"
        );
    }
    Ok(())
}

/// Watches the frames that devices of both kinds write, if the heap takes them. `judge` gets the name of
/// the device, whether it snoops, and what was seen.
///
/// The devices map the buffers once, as videobuf2 does. If everything bounces, a bounce buffer stands in
/// for the caches. Then frames have to be stale without brackets, which shows that the test sees stale
/// frames.
fn by_dma(
    options: &Options,
    brackets: bool,
    judge: impl Fn(&str, bool, Seen) -> Result<()>,
) -> Result<()> {
    let heap = options.heap()?;
    for (name, setup) in [
        ("a device that snoops", Setup::SNOOPING),
        ("a device that does not", Setup::NOT_SNOOPING),
    ] {
        let watched = watch(&heap, &mut ByDma::new(name, &setup)?, brackets);
        if answer(&options.heap, reach(&setup)?) == Answer::Refused {
            let seen = watched.map_err(|error| error.downcast().unwrap_or(Errno::IO));
            expect_errno(name, seen, Errno::OPNOTSUPP)?;
            continue;
        }
        let watched = watched?;
        println!("{name}: {watched:?}");
        judge(name, setup.snoops, watched)?;
    }
    Ok(())
}

/// If brackets are needed and nothing bounces, the result without brackets is not judged. It takes a
/// machine with caches, or the cache checker.
fn no_brackets(options: &Options) -> Result<()> {
    let bounces = bouncing_is_forced()?;
    let keeps = options.heap.ends_with("-uncached") || options.heap_is_strict();
    by_dma(options, false, |name, snoops, seen| {
        if bounces {
            ensure!(
                seen.right == 0,
                "{name}: expected all frames to be stale, got {seen:?}"
            );
        } else if snoops || keeps {
            ensure!(
                seen.all(),
                "{name}: expected all frames to be right, got {seen:?}"
            );
        }
        Ok(())
    })
}

fn brackets(options: &Options) -> Result<()> {
    by_dma(options, true, |name, _, seen| {
        ensure!(
            seen.all(),
            "{name}: expected all frames to be right, got {seen:?}"
        );
        Ok(())
    })?;
    // A camera that writes by the CPU does not write to its bounce buffer. A bracket would copy the bounce
    // buffer over the frame.
    if bouncing_is_forced()? {
        return Ok(());
    }
    for camera in Camera::all()? {
        if !may_use(options, &camera)? {
            continue;
        }
        let what = camera.describe();
        let mut camera = ByCamera::new(camera);
        let seen = watch(&options.heap()?, &mut camera, true)?;
        ensure!(
            seen.all(),
            "{what}: expected all frames to be right, got {seen:?}"
        );
    }
    Ok(())
}

/// With swiotlb=force the DMA API bounces every mapping. A heap that promises coherency
/// cannot allow that. The in-tree heaps do.
fn forced_bounce(options: &Options) -> Result<()> {
    options.need_strict_heap()?;
    if !bouncing_is_forced()? {
        return skip("this kernel was booted without swiotlb=force");
    }
    let mut mapped = 0;
    for camera in Camera::all()? {
        let what = camera.describe();
        let control = observe(&camera, &options.control()?)?;
        if control.held.is_empty() {
            println!("{what}: does not map: {}", outcome(&control.result));
            continue;
        }
        mapped += 1;
        let seen = observe(&camera, &options.heap()?)?;
        ensure!(
            seen.result.is_err() && seen.held.is_empty(),
            "{what}: expected an error, got {} with {:?} attached",
            outcome(&seen.result),
            seen.held
        );
        println!("{what}: {}", outcome(&seen.result));
        ensure!(
            seen.attached.len() == seen.detached,
            "{what}: attached {} times, detached {} times",
            seen.attached.len(),
            seen.detached
        );
    }
    if mapped == 0 {
        return skip("no video device here maps: modprobe vivid allocators=1 gives one");
    }
    Ok(())
}
