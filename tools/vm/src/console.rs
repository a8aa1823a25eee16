// SPDX-License-Identifier: GPL-2.0

//! Finds reports of trouble in what a guest's kernel prints.
//!
//! [`TABLE`] is the only place that knows how reports begin.

use std::fmt;

/// What kind of trouble a [`Report`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `WARN()` and its relatives.
    Warning,
    /// `BUG()`, bad pages, scheduling while atomic, and others as severe.
    Bug,
    /// The kernel hit a fault that it cannot handle.
    Oops,
    /// The kernel gave up.
    Panic,
    /// Locks taken in an order or a context that can deadlock; RCU misused.
    Lockdep,
    /// An access to memory out of bounds or after it was freed.
    Kasan,
    /// Undefined behaviour.
    Ubsan,
    /// Memory that nobody refers to.
    Kmemleak,
    /// A task that waits for too long, or a CPU that does not schedule.
    Hung,
    /// A report of no other kind, which dumped the stack.
    Stack,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Warning => "WARNING",
            Kind::Bug => "BUG",
            Kind::Oops => "Oops",
            Kind::Panic => "panic",
            Kind::Lockdep => "lockdep report",
            Kind::Kasan => "KASAN report",
            Kind::Ubsan => "UBSAN report",
            Kind::Kmemleak => "kmemleak report",
            Kind::Hung => "hung task or CPU",
            Kind::Stack => "stack dump",
        })
    }
}

/// How the first line of a report looks, after time stamp and caller.
enum Pattern {
    /// It starts with the text.
    Starts(&'static str),
    /// It starts with the first text, and contains the second one after that.
    StartsHas(&'static str, &'static str),
}

use Kind::*;
use Pattern::*;

/// How reports begin. The first row that matches a line decides.
const TABLE: &[(Kind, Pattern)] = &[
    (Kasan, Starts("BUG: KASAN: ")),
    (Kasan, Starts("BUG: KFENCE: ")),
    (Ubsan, Starts("UBSAN: ")),
    (Ubsan, Starts("Internal error: UBSAN: ")),
    (
        Kmemleak,
        StartsHas("kmemleak: ", " new suspected memory leaks"),
    ),
    (
        Kmemleak,
        Starts("kmemleak: Cannot allocate a kmemleak_object"),
    ),
    (
        Lockdep,
        Starts("WARNING: possible circular locking dependency detected"),
    ),
    (
        Lockdep,
        Starts("WARNING: possible recursive locking detected"),
    ),
    (
        Lockdep,
        Starts("WARNING: possible irq lock inversion dependency detected"),
    ),
    (
        Lockdep,
        StartsHas("WARNING: ", "-unsafe lock order detected"),
    ),
    (Lockdep, Starts("WARNING: inconsistent lock state")),
    (Lockdep, Starts("WARNING: Nested lock was not taken")),
    (Lockdep, Starts("WARNING: bad unlock balance detected!")),
    (Lockdep, Starts("WARNING: bad contention detected!")),
    (Lockdep, Starts("WARNING: held lock freed!")),
    (Lockdep, StartsHas("WARNING: ", " still has locks held!")),
    (
        Lockdep,
        Starts("WARNING: lock held when returning to user space!"),
    ),
    (Lockdep, Starts("WARNING: suspicious RCU usage")),
    (Lockdep, Starts("[ BUG: Invalid wait context ]")),
    (Lockdep, Starts("INFO: trying to register non-static key.")),
    (Lockdep, StartsHas("BUG: MAX_", " too low!")),
    (Hung, StartsHas("INFO: task ", " for more than ")),
    (Hung, Starts("watchdog: BUG: soft lockup - CPU#")),
    (
        Hung,
        StartsHas("watchdog: CPU", ": Watchdog detected hard LOCKUP on cpu "),
    ),
    (Hung, Starts("BUG: workqueue lockup - pool")),
    (Hung, StartsHas("rcu: INFO: ", " stall")),
    (Panic, Starts("Kernel panic - not syncing: ")),
    (
        Oops,
        Starts("BUG: kernel NULL pointer dereference, address: "),
    ),
    (
        Oops,
        Starts("BUG: unable to handle page fault for address: "),
    ),
    (
        Oops,
        StartsHas("Unable to handle kernel ", " at virtual address "),
    ),
    (Oops, Starts("Oops: ")),
    (Oops, Starts("Internal error: ")),
    (Bug, Starts("kernel BUG at ")),
    (Bug, Starts("BUG: ")),
    (Bug, StartsHas("BUG ", "): ")),
    (Warning, Starts("WARNING: ")),
    (Warning, Starts("sysfs: cannot create duplicate filename ")),
    (Stack, Starts("Call Trace:")),
    (Stack, Starts("Call trace:")),
];

impl Pattern {
    fn matches(&self, message: &str) -> bool {
        match self {
            Starts(start) => message.starts_with(start),
            StartsHas(start, text) => message
                .strip_prefix(start)
                .is_some_and(|rest| rest.contains(text)),
        }
    }
}

/// The kind of report that starts with `line`, if one does.
fn classify(line: &str) -> Option<Kind> {
    let message = message(line);
    TABLE
        .iter()
        .find(|(_, pattern)| pattern.matches(message))
        .map(|(kind, _)| *kind)
}

/// A line of the console, without time stamp and caller.
fn message(line: &str) -> &str {
    let mut rest = line;
    while let Some((field, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        // "    1.234567", and with CONFIG_PRINTK_CALLER "  T123" or "  C0".
        let field = field.trim_start();
        let number = field.strip_prefix(['T', 'C']).unwrap_or(field);
        if number.is_empty()
            || !number
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'.'))
        {
            break;
        }
        rest = after;
    }
    // One blank follows the time stamp. Any further blanks indent the message, and stay.
    if rest.len() < line.len() {
        rest.strip_prefix(' ').unwrap_or(rest)
    } else {
        rest
    }
}

/// Trouble that a guest's kernel reported.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it is about.
    pub kind: Kind,
    /// The console's lines from the first of the report on.
    pub text: String,
    lines: usize,
}

impl Report {
    /// What its first line says.
    pub fn message(&self) -> &str {
        message(self.text.lines().next().unwrap_or_default())
    }
}

/// Collects the reports from a console that is read piece by piece.
#[derive(Default)]
pub(crate) struct Scanner {
    line: Vec<u8>,
    reports: Vec<Report>,
    /// Whether the last report goes on.
    open: bool,
}

impl Scanner {
    /// How many lines of a report are kept.
    const LINES: usize = 60;

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ => self.line.push(byte),
            }
        }
    }

    /// Returns the reports, once the console has ended.
    pub(crate) fn finish(mut self) -> Vec<Report> {
        self.end_line();
        self.reports
    }

    /// Whether a line that looks like a new report belongs to the last one. Any
    /// report may dump the stack, and a BUG is followed by an Oops.
    fn goes_on(&self, kind: Kind) -> bool {
        let last = self
            .reports
            .last()
            .filter(|_| self.open)
            .map(|report| report.kind);
        match kind {
            Stack => last.is_some(),
            Oops => matches!(last, Some(Bug | Oops)),
            _ => false,
        }
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        if let Some(kind) = classify(&line).filter(|&kind| !self.goes_on(kind)) {
            self.reports.push(Report {
                kind,
                text: String::new(),
                lines: 0,
            });
            self.open = true;
        }
        if !self.open {
            return;
        }
        if let Some(report) = self.reports.last_mut() {
            report.text.push_str(&line);
            report.text.push('\n');
            report.lines += 1;
            self.open = report.lines < Self::LINES && !message(&line).starts_with("---[ end ");
        }
    }
}

/// The reports in all that a kernel has printed.
pub fn reports(console: &[u8]) -> Vec<Report> {
    let mut scanner = Scanner::default();
    scanner.feed(console);
    scanner.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First lines of reports, as Linux 7.3 prints them.
    #[rustfmt::skip]
    const REPORTS: &[(Kind, &str)] = &[
        // kernel/panic.c
        (Warning, "[    2.718281] WARNING: drivers/misc/lkdtm/bugs.c:112 at lkdtm_WARNING+0x9/0x10 [lkdtm], CPU#0: sh/54"),
        (Warning, "[    2.718281] WARNING: at 0xffffffffc0009000, CPU#1: insmod/61"),
        (Panic, "[    3.141592] Kernel panic - not syncing: Fatal exception in interrupt"),
        // lib/bug.c, mm/page_alloc.c, mm/memory.c, mm/slub.c, kernel/sched/core.c
        (Bug, "[    1.000000] kernel BUG at drivers/misc/lkdtm/bugs.c:105!"),
        (Bug, "[    1.000000] kernel BUG at lkdtm_BUG+0x5/0x10 [lkdtm] [verbose debug info unavailable]"),
        (Bug, "[    1.000000] BUG: Bad page state in process sh  pfn:04321"),
        (Bug, "[    1.000000] BUG: Bad page map in process heap  pte:80000000 pmd:01234"),
        (Bug, "[    1.000000] BUG kmalloc-64 (Not tainted): Poison overwritten"),
        (Bug, "[    1.000000] BUG: scheduling while atomic: sh/71/0x00000002"),
        (Bug, "[    1.000000] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:591"),
        // arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c
        (Oops, "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000"),
        (Oops, "[    1.000000] BUG: unable to handle page fault for address: ffffc90000001000"),
        (Oops, "[    1.000000] Oops: Oops: 0002 [#1] SMP NOPTI"),
        (Oops, "[    1.000000] Oops: general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP"),
        // arch/arm64/mm/fault.c, arch/arm64/kernel/traps.c
        (Oops, "[    1.000000] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000"),
        (Oops, "[    1.000000] Internal error: Oops: 0000000096000044 [#1]  SMP"),
        (Oops, "[    1.000000] Internal error: Oops - BUG: 00000000f2000800 [#1]  SMP"),
        // kernel/locking/lockdep.c
        (Lockdep, "[    1.000000] WARNING: possible circular locking dependency detected"),
        (Lockdep, "[    1.000000] WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"),
        (Lockdep, "[    1.000000] WARNING: possible recursive locking detected"),
        (Lockdep, "[    1.000000] WARNING: inconsistent lock state"),
        (Lockdep, "[    1.000000] WARNING: possible irq lock inversion dependency detected"),
        (Lockdep, "[    1.000000] WARNING: Nested lock was not taken"),
        (Lockdep, "[    1.000000] WARNING: bad unlock balance detected!"),
        (Lockdep, "[    1.000000] WARNING: bad contention detected!"),
        (Lockdep, "[    1.000000] WARNING: held lock freed!"),
        (Lockdep, "[    1.000000] WARNING: sh/61 still has locks held!"),
        (Lockdep, "[    1.000000] WARNING: lock held when returning to user space!"),
        (Lockdep, "[    1.000000] WARNING: suspicious RCU usage"),
        (Lockdep, "[    1.000000] [ BUG: Invalid wait context ]"),
        (Lockdep, "[    1.000000] INFO: trying to register non-static key."),
        (Lockdep, "[    1.000000] BUG: MAX_LOCKDEP_CHAINS too low!"),
        // mm/kasan/report.c, mm/kfence/report.c, lib/ubsan.c, mm/kmemleak.c
        (Kasan, "[    1.000000] BUG: KASAN: slab-use-after-free in lkdtm_READ_AFTER_FREE+0x1a/0x30 [lkdtm]"),
        (Kasan, "[    1.000000] BUG: KASAN: invalid-access"),
        (Kasan, "[    1.000000] BUG: KFENCE: out-of-bounds read in test_out_of_bounds_read+0xa6/0x234"),
        (Ubsan, "[    1.000000] UBSAN: array-index-out-of-bounds in drivers/misc/lkdtm/bugs.c:431:16"),
        (Ubsan, "[    1.000000] Internal error: UBSAN: array index out of bounds: 00000000f2005512 [#1]  SMP"),
        (Kmemleak, "[   61.000000] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"),
        // kernel/hung_task.c, kernel/watchdog.c, kernel/workqueue.c, kernel/rcu/tree_stall.h
        (Hung, "[   61.000000] INFO: task sh:54 blocked for more than 30 seconds."),
        (Hung, "[   61.000000] INFO: task sh:54 blocked in I/O wait for more than 30 seconds."),
        (Hung, "[   61.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:54]"),
        (Hung, "[   61.000000] watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 1"),
        (Hung, "[   61.000000] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 40s!"),
        (Hung, "[   61.000000] rcu: INFO: rcu_sched self-detected stall on CPU"),
        (Hung, "[   61.000000] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
        (Hung, "[   61.000000] rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-... }"),
        // fs/sysfs/dir.c, arch/x86/kernel/dumpstack.c, arch/arm64/kernel/stacktrace.c
        (Warning, "[    1.000000] sysfs: cannot create duplicate filename '/devices/virtual/dma_heap/system'"),
        (Stack, "[    1.000000] Call Trace:"),
        (Stack, "[    1.000000] Call trace:"),
        // CONFIG_PRINTK_CALLER, and no CONFIG_PRINTK_TIME.
        (Warning, "[    2.718281][   T54] WARNING: fs/inode.c:1 at drop_nlink+0x1/0x2, CPU#0: rm/54"),
        (Bug, "kernel BUG at mm/slub.c:1!"),
    ];

    /// What kernels, our module and tests print when nothing is wrong.
    const INNOCENT: &[&str] = &[
        "",
        "[    0.000000] Linux version 7.3.4 (root@host) (Debian clang version 19.1.7) #1 SMP",
        "[    0.000000] Kernel command line: console=ttyS0 panic=-1 sysctl.kernel.hung_task_timeout_secs=30",
        "[    0.000000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "[    0.000000] [Firmware Bug]: TSC doesn't count with P0 frequency!",
        "[    0.000000] ACPI BIOS Error (bug): Could not resolve symbol [\\_SB], AE_NOT_FOUND",
        "[    0.000000] rcu: Hierarchical RCU implementation.",
        "[    0.000000] rcu: RCU calculated value of scheduler-enlistment delay is 10 jiffies.",
        "[    0.010000] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
        "[    0.010000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15874)",
        "[    0.010000] kmemleak: Automatic memory scanning thread started",
        "[    0.100000] ODEBUG: selftest passed",
        "[    0.100000] DMA-API: preallocated 65536 debug entries",
        "[    1.000000] lkdtm: Performing direct entry WARNING",
        "[    1.000000] INFO: lockdep is turned off.",
        "[    1.000000] test: a WARNING: this is only about one",
        "[    1.000000]  kernel BUG at nothing, quoted with an indent",
        "[    1.000000] panic on oops is off",
        "[    1.000000] dmabuf_coherency: loading out-of-tree module taints kernel.",
        "# Subtest: BUG: none",
    ];

    #[test]
    fn every_report_is_noticed() {
        for (kind, line) in REPORTS {
            assert_eq!(classify(line), Some(*kind), "{line}");
        }
    }

    #[test]
    fn every_row_is_needed() {
        for (row, (_, pattern)) in TABLE.iter().enumerate() {
            let decides = |line: &&str| {
                let message = message(line);
                pattern.matches(message)
                    && !TABLE[..row]
                        .iter()
                        .any(|(_, earlier)| earlier.matches(message))
            };
            let lines = REPORTS.iter().map(|(_, line)| *line);
            let more = ["kmemleak: Cannot allocate a kmemleak_object structure"];
            assert!(
                lines.chain(more).any(|line| decides(&line)),
                "row {row} matches no report"
            );
        }
    }

    #[test]
    fn innocent_lines_are_no_reports() {
        for line in INNOCENT {
            assert_eq!(classify(line), None, "{line}");
        }
    }

    #[test]
    fn a_report_ends_and_keeps_its_stack() {
        let mut scanner = Scanner::default();
        let console = "[    1.0] fine\r\n\
            [    2.0] WARNING: a.c:1 at f+0x1/0x2, CPU#0: sh/1\r\n\
            [    2.0] Call Trace:\r\n\
            [    2.0]  f+0x1/0x2\r\n\
            [    2.0] ---[ end trace 0000000000000000 ]---\r\n\
            [    3.0] fine again\r\n\
            [    4.0] kernel BUG at a.c:1!\r\n\
            [    4.0] Oops: invalid opcode: 0000 [#1] SMP NOPTI\r\n\
            [    4.0] Kernel panic - not syncing: Fatal exception";
        for chunk in console.as_bytes().chunks(7) {
            scanner.feed(chunk);
        }
        let reports = scanner.finish();
        let kinds: Vec<Kind> = reports.iter().map(|report| report.kind).collect();
        assert_eq!(kinds, [Warning, Bug, Panic]);
        assert_eq!(reports[0].text.lines().count(), 4);
    }
}
