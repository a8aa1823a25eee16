// SPDX-License-Identifier: GPL-2.0

//! Links and directories in a device's directory in sysfs.
//!
//! C headers: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`include/linux/kobject.h`](srctree/include/linux/kobject.h)

use crate::{
    bindings,
    kernel::{
        device::{
            DeviceExt,
            HasDriver, //
        },
        module::Forever, //
    }, //
};
use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    device::Device,
    error::to_result,
    fmt::{
        self,
        Write, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    },
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

/// A link in the directory of a device. It is removed together with that directory.
///
/// # Invariants
///
/// There is a link `name` that we have created, unless the device has been deleted since.
pub(crate) struct Link {
    dev: ARef<Device>,
    name: &'static CStr,
}

impl Link {
    /// Creates a link to `target` in the directory of `dev`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if there is something of that name.
    /// - [`EINVAL`] if the name is empty or has a `/`.
    /// - [`ENOENT`] if `target` is not in sysfs.
    /// - [`ENOMEM`] if there is no memory for it.
    pub(crate) fn create(dev: HasDriver<'_>, target: &Device, name: &'static CStr) -> Result<Self> {
        check_name(name)?;
        // SAFETY: Both devices are valid. The driver core unbinds a driver before it deletes the device,
        // so this one has a directory. If that of a parent has gone, this fails.
        to_result(unsafe {
            bindings::sysfs_create_link_nowarn(kobj(&dev), kobj(target), name.as_char_ptr())
        })?;
        // INVARIANT: It has just been created.
        Ok(Self {
            dev: (&*dev).into(),
            name,
        })
    }

    /// Removes the link from the directory of `dev`. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if it is another device's. Then it stays.
    pub(crate) fn remove(self, dev: HasDriver<'_>) -> Result {
        if !core::ptr::eq(&*self.dev, &*dev) {
            return Err(EINVAL);
        }
        // SAFETY: The device is valid. Its directory exists, as above.
        unsafe { bindings::sysfs_remove_link(kobj(&dev), self.name.as_char_ptr()) };
        Ok(())
    }
}

fn kobj(dev: &Device) -> *mut bindings::kobject {
    // SAFETY: The device is valid.
    unsafe { &raw mut (*dev.as_raw()).kobj }
}

/// Whether something in sysfs can have this name.
fn check_name(name: &CStr) -> Result {
    if name.is_empty() || name.to_bytes().contains(&b'/') {
        Err(EINVAL)
    } else {
        Ok(())
    }
}

/// Whether something can be added as `name` to a directory. Sysfs refuses a name that is taken as
/// well, but dumps the stack. It still does so if somebody else takes the name right now.
///
/// # Safety
///
/// `parent` must be a kobject that has a directory in sysfs.
unsafe fn check_new_name(parent: *mut bindings::kobject, name: &CStr) -> Result {
    check_name(name)?;
    // SAFETY: By this function's safety requirements.
    if unsafe { bindings::dmacoh_sysfs_has(parent, name.as_char_ptr()) } {
        Err(EEXIST)
    } else {
        Ok(())
    }
}

/// The contents of the files of a [`Directory`], in the order of the files.
pub(crate) type Texts = KVec<KVec<u8>>;

/// Whether there is a text for each file, short enough for sysfs.
fn check(files: &[TextFile], texts: &Texts) -> Result {
    if texts.len() == files.len() && texts.iter().all(|text| text.len() < PAGE_SIZE) {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

/// What a [`Directory`] owns a reference to. Freed when the last user in sysfs has gone.
#[pin_data]
struct Object {
    #[pin]
    kobj: Opaque<bindings::kobject>,
    files: &'static [TextFile],
    /// The contents of the files.
    #[pin]
    texts: Mutex<Texts>,
}

/// The key by which lockdep knows the files of a [`Directory`]. It has to be a `static`, which a
/// [`TextFile`] need not be.
#[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
static KEY: LockKey = LockKey(Opaque::zeroed());

#[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
struct LockKey(Opaque<bindings::lock_class_key>);

// SAFETY: What lockdep writes there it locks.
#[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
unsafe impl Sync for LockKey {}

/// A file of a [`Directory`], for everybody to read.
#[repr(transparent)]
pub(crate) struct TextFile(bindings::attribute);

// SAFETY: It is never written.
unsafe impl Sync for TextFile {}

impl TextFile {
    /// A file of this name.
    pub(crate) const fn new(name: &'static CStr) -> Self {
        let mut attribute: bindings::attribute = pin_init::zeroed();

        attribute.name = name.to_bytes_with_nul().as_ptr();
        attribute.mode = 0o444;
        #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
        {
            attribute.key = KEY.0.get();
        }
        Self(attribute)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static CStr {
        // SAFETY: `new()` has been given a C string that is never freed.
        unsafe { CStr::from_char_ptr(self.0.name) }
    }
}

/// A directory in that of a device, with links and text files.
///
/// # Invariants
///
/// Owns a reference to an [`Object`] that has been added to sysfs.
pub(crate) struct Directory(NonNull<Object>);

// SAFETY: A kobject belongs to no task, and may be removed by any that may sleep.
unsafe impl Send for Directory {}

impl Directory {
    /// Creates the directory `name` in that of `dev`, with these files. The texts are their
    /// contents, in the same order. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if there is something of that name, or two files have one.
    /// - [`EINVAL`] if there are not as many texts as files, one is not shorter than a page, or a
    ///   name is empty or has a `/`.
    /// - [`ENOMEM`] if there is no memory for it.
    pub(crate) fn create(
        dev: HasDriver<'_>,
        name: &CStr,
        files: &'static [TextFile],
        texts: Texts,
        _: Forever,
    ) -> Result<Self> {
        check(files, &texts)?;
        // SAFETY: The driver core unbinds a driver before it deletes the device, so this has a directory.
        unsafe { check_new_name(kobj(&dev), name) }?;
        let object = KBox::pin_init(
            pin_init!(Object {
                kobj <- Opaque::zeroed(),
                files,
                texts <- new_mutex!(texts),
            }),
            GFP_KERNEL,
        )?;
        let object = object.into_foreign().cast::<Object>();
        // INVARIANT: If adding it fails, the reference is given back when `this` is dropped, which
        // is also right for a kobject that is only initialised.
        // SAFETY: `into_foreign()` does not return NULL for a type that has a size.
        let this = Self(unsafe { NonNull::new_unchecked(object) });

        // The callbacks of the type stay after the directory has gone, until the last reader of it
        // has: there is a `Forever`.
        //
        // SAFETY: The kobject is zeroed and the type is static. The parent has a directory, as
        // above.
        to_result(unsafe {
            bindings::kobject_init_and_add(
                this.kobj(),
                &KTYPE.0,
                kobj(&dev),
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })?;
        for file in files {
            // SAFETY: The kobject has a directory, and the attribute is static.
            unsafe {
                check_new_name(this.kobj(), file.name())?;
                to_result(bindings::sysfs_create_file_ns(
                    this.kobj(),
                    &file.0,
                    core::ptr::null(),
                ))
            }?;
        }
        Ok(this)
    }

    fn kobj(&self) -> *mut bindings::kobject {
        // SAFETY: By the type invariants the object is valid.
        unsafe { (*self.0.as_ptr()).kobj.get() }
    }

    /// Replaces the contents of all files.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] as for [`Self::create`].
    pub(crate) fn set_texts(&self, texts: Texts) -> Result {
        // SAFETY: By the type invariants the object is valid.
        let object = unsafe { self.0.as_ref() };

        check(object.files, &texts)?;
        *object.texts.lock() = texts;
        Ok(())
    }

    /// Creates a link to `target`. May sleep. The errors are those of [`Link::create`].
    pub(crate) fn create_link(&self, target: &Device, name: &CStr) -> Result {
        check_name(name)?;
        // SAFETY: Both kobjects are valid. Ours holds its directory in sysfs, in which nothing can be
        // created any more if it has been removed together with the device's own.
        to_result(unsafe {
            bindings::sysfs_create_link_nowarn(self.kobj(), kobj(target), name.as_char_ptr())
        })
    }

    /// Removes the link `name`, if there is one. May sleep.
    pub(crate) fn remove_link(&self, name: &CStr) {
        // SAFETY: By the type invariants the object is valid.
        let files = unsafe { self.0.as_ref() }.files;
        if files.iter().any(|file| file.name() == name) {
            return;
        }
        // SAFETY: The kobject is valid, and holds its directory in sysfs, as above.
        unsafe { bindings::sysfs_remove_link(self.kobj(), name.as_char_ptr()) };
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: We own a reference. What is being read is waited for, and the directory is gone
        // with all that is in it, when this returns; if sysfs has removed it already with the
        // device's own, nothing is done.
        unsafe { bindings::kobject_del(self.kobj()) };
        // SAFETY: This gives up our reference.
        unsafe { bindings::kobject_put(self.kobj()) };
    }
}

/// Lets a C structure that is never written be a `static`.
struct Constant<T>(T);

// SAFETY: It is never written.
unsafe impl<T> Sync for Constant<T> {}

static OPS: Constant<bindings::sysfs_ops> = Constant(bindings::sysfs_ops {
    show: Some(show_callback),
    store: None,
});

static KTYPE: Constant<bindings::kobj_type> = Constant(bindings::kobj_type {
    release: Some(release_callback),
    sysfs_ops: &OPS.0,
    ..pin_init::zeroed()
});

/// # Safety
///
/// Only called by sysfs, with the kobject of an [`Object`] and a buffer of [`PAGE_SIZE`].
unsafe extern "C" fn show_callback(
    kobj: *mut bindings::kobject,
    attr: *mut bindings::attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: `kobj` is embedded in an `Object`, which lives while its file is being read.
    let object = unsafe { &*container_of!(Opaque::cast_from(kobj), Object, kobj) };
    let place = object
        .files
        .iter()
        .position(|file| core::ptr::eq(&file.0, attr));
    let texts = object.texts.lock();
    let text = place
        .and_then(|place| texts.get(place))
        .map_or(&[][..], |text| text);

    // SAFETY: The buffer has room for a page, and no text is as long.
    unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), text.len()) };
    // CAST: It is less than the size of a page.
    text.len() as isize
}

/// # Safety
///
/// Only called by the kobject core, once, with the kobject of an [`Object`] that nobody uses.
unsafe extern "C" fn release_callback(kobj: *mut bindings::kobject) {
    // SAFETY: `kobj` is embedded in an `Object` of which `Directory::create()` has made a foreign one.
    drop(unsafe {
        let object = container_of!(Opaque::cast_from(kobj), Object, kobj).cast_mut();
        Pin::<KBox<Object>>::from_foreign(object.cast())
    });
}

/// A page that is being written for a reader.
pub(crate) struct Text<'a> {
    page: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len + s.len();
        let room = self.page.get_mut(self.len..end).ok_or(fmt::Error)?;

        for (to, from) in room.iter_mut().zip(s.bytes()) {
            to.write(from);
        }
        self.len = end;
        Ok(())
    }
}

/// How a file of a device is read and written. It is about a `T`.
pub(crate) struct FileOps<T> {
    /// Writes the content for a reader. A new line is added to it.
    pub(crate) show: fn(&T, &mut Text<'_>) -> fmt::Result,
    /// Handles what root has written, without a new line at the end. None if nobody may write.
    pub(crate) store: Option<fn(&T, &str) -> Result>,
}

impl<T> FileOps<T> {
    /// A file that nobody may write.
    pub(crate) const fn read_only(show: fn(&T, &mut Text<'_>) -> fmt::Result) -> Self {
        Self { show, store: None }
    }
}

/// A file of a device.
#[repr(C)]
struct File<T: 'static> {
    attribute: bindings::device_attribute,
    data: &'static T,
    ops: &'static FileOps<T>,
}

/// Adds a file to the directory of `dev`, for everybody to read. May sleep.
///
/// # Errors
///
/// - [`EEXIST`] if there is something of that name.
/// - [`EINVAL`] if the name is empty or has a `/`.
/// - [`ENOMEM`] if there is no memory for it.
///
/// # Safety
///
/// `dev` must be registered, and not be deleted meanwhile. This module must never be unloaded.
pub(crate) unsafe fn add_file<T: Sync>(
    dev: &Device,
    name: &'static CStr,
    data: &'static T,
    ops: &'static FileOps<T>,
) -> Result {
    // SAFETY: The device has a directory.
    unsafe { check_new_name(kobj(dev), name) }?;

    let mut attribute: bindings::device_attribute = pin_init::zeroed();
    attribute.attr.name = name.as_char_ptr();
    attribute.attr.mode = 0o444;
    attribute.__bindgen_anon_1.show = Some(show_file_callback::<T>);
    if ops.store.is_some() {
        attribute.attr.mode = 0o644;
        attribute.__bindgen_anon_2.store = Some(store_file_callback::<T>);
    }
    let mut file = KBox::new(
        File {
            attribute,
            data,
            ops,
        },
        GFP_KERNEL,
    )?;

    // SAFETY: The attribute is ours, and not in use yet.
    unsafe { bindings::dmacoh_sysfs_attr_init(&mut file.attribute.attr) };
    // SAFETY: The device has a directory. If this works, the attribute lives for ever.
    to_result(unsafe { bindings::device_create_file(dev.as_raw(), &file.attribute) })?;
    KBox::leak(file);
    Ok(())
}

/// # Safety
///
/// Only called by the driver core, with the attribute of a [`File`] of `T` and a buffer of
/// [`PAGE_SIZE`].
unsafe extern "C" fn show_file_callback<T: Sync + 'static>(
    _dev: *mut bindings::device,
    attribute: *mut bindings::device_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: The attribute is the first field of a `File`, which is never freed.
    let file = unsafe { &*attribute.cast::<File<T>>() };
    let mut text = Text {
        // The driver core warns about a file that fills the whole page.
        //
        // SAFETY: The buffer is ours meanwhile, and larger than this.
        page: unsafe { core::slice::from_raw_parts_mut(buf.cast(), PAGE_SIZE - 1) },
        len: 0,
    };

    match (file.ops.show)(file.data, &mut text).and_then(|()| text.write_str("\n")) {
        // CAST: It is no more than the size of a page.
        Ok(()) => text.len as isize,
        Err(_) => EIO.to_errno() as isize,
    }
}

/// # Safety
///
/// Only called by the driver core, with the attribute of a [`File`] of `T` and `len` bytes.
unsafe extern "C" fn store_file_callback<T: Sync + 'static>(
    _dev: *mut bindings::device,
    attribute: *mut bindings::device_attribute,
    buf: *const c_char,
    len: usize,
) -> isize {
    // SAFETY: The attribute is the first field of a `File`, which is never freed.
    let file = unsafe { &*attribute.cast::<File<T>>() };
    // SAFETY: The buffer is ours meanwhile, and has this size.
    let bytes = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len) };

    let result = core::str::from_utf8(bytes)
        .map_err(|_| EINVAL)
        .and_then(|text| {
            let store = file.ops.store.ok_or(EACCES)?;
            store(file.data, text.strip_suffix('\n').unwrap_or(text))
        });
    match result {
        // CAST: It is no more than the size of a page.
        Ok(()) => len as isize,
        Err(err) => err.to_errno() as isize,
    }
}
