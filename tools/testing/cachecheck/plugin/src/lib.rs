// SPDX-License-Identifier: GPL-2.0

//! The model of caches as a plugin of QEMU, version 10 or later.
//!
//! `-plugin libcachecheck_plugin.so,out=FILE` writes what was found to `FILE`, as
//! JSON, when QEMU ends. `speculation=off` and `edu_snoops=off` change the [`Model`].
//!
//! The guest is a machine `virt` with one CPU, a Cortex-A76 or another that has
//! neither LPA2 nor instructions that copy memory. Its memory is a
//! `memory-backend-memfd` with `share=on`, so that it can be seen from here.

use cachecheck::{Checker, Instruction, Machine, Model, Register};
use memmap2::MmapRaw;
use qemu_plugin::{
    Args, CallbackFlags, Error, HasCallbacks, Info, Instruction as Translated, MemRW, MemValue,
    MemoryInfo, PluginId, Register as Registration, RegisterDescriptor, Result, TranslationBlock,
    VCPUIndex, Value, qemu_plugin_get_registers, qemu_plugin_register_atexit_cb, register,
};
use std::fs::{self, File};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where a machine `virt` has its memory.
const BASE: u64 = 0x4000_0000;

/// What QEMU calls the file of a `memory-backend-memfd`.
const MEMFD: &str = "/memfd:memory-backend-memfd";

/// The guest, once it has a CPU.
static GUEST: OnceLock<Guest> = OnceLock::new();

struct Guest {
    checker: Checker,
    memory: MmapRaw,
    general: Vec<RegisterDescriptor<'static>>,
    ttbr0: RegisterDescriptor<'static>,
    ttbr1: RegisterDescriptor<'static>,
    tcr: RegisterDescriptor<'static>,
    mair: RegisterDescriptor<'static>,
}

impl Guest {
    fn new(plugin: &Plugin) -> Result<Self> {
        let memory = memory()?;
        let registers = qemu_plugin_get_registers()?;
        let find = |name: &str| {
            let found = registers.iter().find(|register| register.name == name);
            found
                .cloned()
                .ok_or_else(|| error(format!("the CPU has no register {name}")))
        };
        Ok(Self {
            checker: Checker::new(Model {
                base: BASE,
                size: memory.len() as u64,
                speculation: plugin.speculation,
                edu_snoops: plugin.edu_snoops,
            }),
            memory,
            general: (0..31)
                .map(|x| find(&format!("x{x}")))
                .collect::<Result<_>>()?,
            ttbr0: find("TTBR0_EL1")?,
            ttbr1: find("TTBR1_EL1")?,
            tcr: find("TCR_EL1")?,
            mair: find("MAIR_EL1")?,
        })
    }
}

impl Machine for Guest {
    fn register(&self, register: Register) -> u64 {
        let descriptor = match register {
            Register::X(number) => &self.general[usize::from(number)],
            Register::Ttbr0 => &self.ttbr0,
            Register::Ttbr1 => &self.ttbr1,
            Register::Tcr => &self.tcr,
            Register::Mair => &self.mair,
        };
        let bytes = descriptor.read().unwrap_or_default();
        bytes.try_into().map_or(0, u64::from_le_bytes)
    }

    fn memory(&self, physical: u64) -> Option<u64> {
        let offset = usize::try_from(physical.checked_sub(BASE)?).ok()?;
        if offset % size_of::<u64>() != 0 || offset >= self.memory.len() {
            return None;
        }
        // SAFETY: `MmapRaw` guarantees as many bytes as its length, which is a number of pages,
        // for as long as it lives; the eight at `offset` are among them and aligned. The guest
        // may write them meanwhile, as if by another thread, so they are read atomically.
        let word = unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().add(offset).cast()) };
        Some(word.load(Relaxed))
    }
}

/// The guest's memory, as QEMU has it.
fn memory() -> Result<MmapRaw> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let target = fs::read_link(&path).unwrap_or_default();
        if target.to_string_lossy().starts_with(MEMFD) {
            let file = File::options().read(true).write(true).open(path)?;
            return Ok(MmapRaw::map_raw(&file)?);
        }
    }
    Err(error(
        "the guest's memory is no memory-backend-memfd with share=on",
    ))
}

fn error(text: impl Into<String>) -> Error {
    Error::BoxedError(text.into().into())
}

/// What the plugin was told.
struct Plugin {
    speculation: bool,
    edu_snoops: bool,
    /// Whether the kernel has turned on its page tables.
    enabled: bool,
}

impl Registration for Plugin {
    fn register(&mut self, id: PluginId, args: &Args, info: &Info) -> Result<()> {
        if info.target_name != "aarch64"
            || info
                .system
                .as_ref()
                .is_none_or(|system| system.max_vcpus != 1)
        {
            return Err(error("the guest has to be an arm64 machine with one CPU"));
        }
        let mut out = None;
        for (name, value) in &args.parsed {
            match (name.as_str(), value) {
                ("out", Value::String(path)) => out = Some(path.clone()),
                ("speculation", Value::Bool(yes)) => self.speculation = *yes,
                ("edu_snoops", Value::Bool(yes)) => self.edu_snoops = *yes,
                _ => {
                    return Err(error(format!(
                        "{name} is not known, or has another kind of value"
                    )));
                }
            }
        }
        let out = out.ok_or_else(|| error("out=FILE is missing"))?;
        qemu_plugin_register_atexit_cb(id, move |_| write(Path::new(&out)))
    }
}

/// Writes what was found. If that fails, there is no file, which the runner sees.
fn write(out: &Path) {
    let Some(guest) = GUEST.get() else {
        return;
    };
    let written = File::create(out)
        .map_err(serde_json::Error::io)
        .and_then(|file| serde_json::to_writer(file, &guest.checker.findings()));
    if let Err(error) = written {
        eprintln!("cachecheck: {}: {error}", out.display());
    }
}

impl HasCallbacks for Plugin {
    fn on_vcpu_init(&mut self, _: PluginId, _: VCPUIndex) -> Result<()> {
        let guest = Guest::new(self)?;
        GUEST
            .set(guest)
            .map_err(|_| error("the guest has a second CPU"))
    }

    fn on_translation_block_translate(
        &mut self,
        _: PluginId,
        block: TranslationBlock<'_>,
    ) -> Result<()> {
        // Before, nothing is cached, and no page table says so.
        self.enabled |= block.vaddr() >> 55 & 1 != 0;
        if self.enabled {
            for instruction in block.instructions() {
                watch(&instruction);
            }
        }
        Ok(())
    }
}

/// Has the checker told what an instruction does.
fn watch(instruction: &Translated<'_>) {
    let pc = instruction.vaddr();
    for (which, store) in [
        (MemRW::QEMU_PLUGIN_MEM_R, false),
        (MemRW::QEMU_PLUGIN_MEM_W, true),
    ] {
        instruction.register_memory_access_callback_flags(
            move |_, info, address| {
                if let Some(guest) = GUEST.get() {
                    access(guest, pc, &info, address, store);
                }
            },
            which,
            CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
        );
    }
    let mut word = [0; 4];
    instruction.read_data(&mut word);
    if let Some(decoded) = Instruction::decode(u32::from_le_bytes(word)) {
        instruction.register_execute_callback_flags(
            move |_| {
                if let Some(guest) = GUEST.get() {
                    guest.checker.execute(guest, pc, decoded);
                }
            },
            CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
        );
    }
}

fn access(guest: &Guest, pc: u64, info: &MemoryInfo<'_>, address: u64, store: bool) {
    let size = 1 << info.size_shift();
    let Some(physical) = guest.checker.access(guest, pc, address, size, store) else {
        return;
    };
    if store
        && let Some(hwaddr) = info.hwaddr(address)
        && hwaddr.is_io()
        && let Ok(Some(device)) = hwaddr.device_name()
    {
        let value = match info.value() {
            MemValue::U32(value) => value.into(),
            MemValue::U64(value) => value,
            _ => return,
        };
        guest
            .checker
            .store_to_device(&device, pc, physical, value, size);
    }
}

register!(Plugin {
    speculation: true,
    edu_snoops: true,
    enabled: false,
});
