// SPDX-License-Identifier: GPL-2.0

//! Abstractions for DMA heaps.
//!
//! C header: [`include/linux/dma-heap.h`](srctree/include/linux/dma-heap.h)
//!
//! A heap cannot be unregistered, and user space may allocate from it before `dma_heap_add()` has
//! returned. So a module that registers a heap may neither fail to load nor be unloaded afterwards.
//! Heaps are registered by the [`Registrar`] of a module that stays: see
//! [`PermanentModule`](crate::kernel::module::PermanentModule).

pub(crate) mod device;

use crate::{
    bindings,
    kernel::{
        dma_buf::{
            DmaBuf,
            Exporter, //
        },
        module::{
            Forever,
            Registrar, //
        }, //
    }, //
};
use core::marker::PhantomData;
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::aref::ARef, //
};

/// A DMA heap.
///
/// # Examples
///
/// ```
/// use kernel::{
///     dma::{
///         dma_device::DmaDevice,
///         Attrs, //
///     },
///     dma_buf::{
///         DmaBuf,
///         Exporter,
///         Mapping,
///         Ops,
///         Reserved, //
///     },
///     dma_heap::{
///         mem_accounting,
///         Heap, //
///     },
///     mm::page::{
///         Caching,
///         Effort,
///         PageBlock,
///         Pages,
///         Zone, //
///     },
///     module::permanent::{
///         Forever,
///         PermanentModule,
///         Registrar, //
///     },
///     page::PAGE_SHIFT,
///     sync::{
///         aref::ARef,
///         Arc, //
///     }, //
/// };
///
/// /// A heap whose buffers are in one piece.
/// struct OnePiece;
///
/// impl Heap for OnePiece {
///     type Buffer = Buffer;
///
///     fn allocate(
///         &'static self,
///         len: usize,
///         fd_flags: u32,
///         forever: Forever,
///     ) -> Result<ARef<DmaBuf<Buffer>>> {
///         let account = mem_accounting();
///         let block =
///             PageBlock::alloc_zeroed(len >> PAGE_SHIFT, Zone::All, Effort::Reclaim, account)?;
///         let mut pages = Pages::new(Caching::WriteBack, None)?;
///         pages.push(block, 1)?;
///         let pages = pages.into();
///
///         DmaBuf::export(c"one-piece", len, fd_flags, Ok(Buffer { pages }), forever)
///     }
/// }
///
/// /// Its buffers.
/// struct Buffer {
///     pages: Arc<Pages>,
/// }
///
/// #[vtable]
/// impl Exporter for Buffer {
///     fn ops() -> &'static Ops<Self> {
///         static OPS: Ops<Buffer> = Ops::new();
///         &OPS
///     }
///
///     fn attach(_: &DmaBuf<Self>, _: DmaDevice<'_>) -> Result {
///         Ok(())
///     }
///
///     fn map(buf: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
///         Ok(Mapping {
///             pages: buf.pages.clone(),
///             attrs: Attrs::NONE,
///             maintained: true,
///         })
///     }
/// }
///
/// impl PermanentModule for OnePiece {
///     fn prepare() -> Result<Self> {
///         Ok(Self)
///     }
///
///     fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
///         if let Err(err) = registrar.try_add(c"one-piece", self) {
///             registrar.failed(err);
///         }
///     }
///
///     fn start(&'static self, _: Forever) {}
/// }
/// ```
pub(crate) trait Heap: Sync + 'static {
    /// What the heap exports.
    type Buffer: Exporter;

    /// Allocates a buffer of `len` bytes, a positive multiple of the page size.
    ///
    /// `fd_flags` are the flags of the file descriptor that the core is about to make: access mode
    /// and `O_CLOEXEC`. The error reaches the caller of `DMA_HEAP_IOCTL_ALLOC` unchanged. May
    /// sleep. Called at once by any number of tasks, and from the moment of registration.
    fn allocate(
        &'static self,
        len: usize,
        fd_flags: u32,
        forever: Forever,
    ) -> Result<ARef<DmaBuf<Self::Buffer>>>;
}

/// Returns whether the administrator wants buffers charged to the allocating task's memory cgroup
/// (`dma_heap.mem_accounting`).
#[inline]
pub(crate) fn mem_accounting() -> bool {
    // SAFETY: Set when the kernel boots, and only read since.
    unsafe { bindings::mem_accounting }
}

/// The length of the longest name of a file, in bytes.
const NAME_MAX: usize = bindings::NAME_MAX as usize;

/// Whether the core takes `name` as it is. It uses the name as a format and replaces `/` in it, and
/// the name becomes that of a file.
fn is_valid(name: &CStr) -> bool {
    let bytes = name.to_bytes();

    !matches!(bytes, b"" | b"." | b"..")
        && bytes.len() <= NAME_MAX
        && !bytes.iter().any(|byte| b"%/".contains(byte))
}

impl<'a> Registrar<'a> {
    /// Registers `heap` as `/dev/dma_heap/<name>`. It can be used before this returns. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the name is not one of a file, or has a `%`.
    /// - Those of `dma_heap_add()`.
    pub(crate) fn try_add<T: Heap>(&mut self, name: &'a CStr, heap: &'a T) -> Result<Forever> {
        if !is_valid(name) {
            return Err(EINVAL);
        }

        let info = bindings::dma_heap_export_info {
            name: name.as_char_ptr(),
            ops: &VTable::<T>::OPS,
            priv_: core::ptr::from_ref(heap).cast_mut().cast(),
        };
        // A process that has a device node for the heap can open it before the last step that may
        // fail, and may still be allocating after that has failed.
        let forever = self.stay();
        // SAFETY: The module and its data stay, and so do the name, the callbacks and the heap,
        // whether this succeeds or not.
        from_err_ptr(unsafe { bindings::dma_heap_add(&info) })?;

        Ok(forever)
    }
}

/// The callbacks of heap `T`, as C sees them.
struct VTable<T: Heap>(PhantomData<T>);

impl<T: Heap> VTable<T> {
    const OPS: bindings::dma_heap_ops = bindings::dma_heap_ops {
        allocate: Some(Self::allocate_callback),
    };

    /// # Safety
    ///
    /// Only called by the DMA heap core, for a heap that [`Registrar::try_add`] has registered as
    /// `T`.
    unsafe extern "C" fn allocate_callback(
        heap: *mut bindings::dma_heap,
        len: c_ulong,
        fd_flags: u32,
        // None are defined; the core refuses any.
        _heap_flags: u64,
    ) -> *mut bindings::dma_buf {
        // SAFETY: `try_add()` has given a `&T`, and has had the module's data stay, which the heap
        // is part of.
        let heap: &'static T = unsafe { &*bindings::dma_heap_get_drvdata(heap).cast() };

        // SAFETY: `try_add()` has had the module stay.
        let forever = unsafe { Forever::new() };

        match heap.allocate(len, fd_flags, forever) {
            Ok(buf) => ARef::into_raw(buf).as_ptr().cast(),
            Err(err) => err.to_ptr(),
        }
    }
}
