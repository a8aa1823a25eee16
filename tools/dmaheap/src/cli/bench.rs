// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap bench`: what buffers cost on this machine, in wall time.

use super::Bench;
use super::background::Threads;
use super::output::Output;
use super::table::{Cell, Table};
use super::{size, trial};
use anyhow::Result;
use dmaheap::{Allocator, Buffer, Error, Exporter, Heap, Request, System};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the others are compared with.
const BASELINE: &str = "system";

/// What is measured.
#[derive(Clone, PartialEq)]
enum Operation {
    /// Allocate, with no memory prepared.
    Cold,
    /// Allocate, after a buffer of the size was freed and the module's threads had time.
    Warm,
    /// mmap(), and write one byte of each page.
    Map,
    /// Open and close one for reading and writing.
    Bracket,
    /// By this node.
    Import(PathBuf),
}

/// What came of it for a heap and a size.
struct Measured {
    operation: Operation,
    size: u64,
    heap: String,
    /// Or why there is nothing.
    spread: Result<Spread, String>,
    /// Whether the module's threads have zeroed the memory beforehand.
    is_prepared: bool,
    /// How long they have worked for each, if the kernel counts that.
    threads: Option<Duration>,
}

/// How long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    lower: Duration,
    median: Duration,
    upper: Duration,
}

pub fn run(system: &System, output: &Output, arguments: &Bench) -> Result<()> {
    let devices = super::devices(system, &arguments.devices)?;
    let handles = devices.iter().zip(&arguments.devices);
    let nodes: Vec<_> = handles
        .flat_map(|(device, handle)| trial::nodes(device, handle))
        .collect();
    let heaps = heaps(system, output, arguments)?;
    let mut operations = vec![Operation::Warm, Operation::Map, Operation::Bracket];
    match File::options().write(true).open(DROP_CACHES) {
        Ok(_) => operations.insert(0, Operation::Cold),
        Err(_) => output.note("only root may have the kernel drop what it keeps: no alloc-cold"),
    }
    operations.extend(nodes.into_iter().map(Operation::Import));
    let threads = Threads::find();
    let mut all = Vec::new();
    for operation in &operations {
        for size in &arguments.size {
            for (heap, allocator) in &heaps {
                let case = Case {
                    allocator,
                    size: *size,
                    samples: arguments.samples,
                    threads: &threads,
                };
                let (spread, threads) = case.measure(operation)?;
                all.push(Measured {
                    operation: operation.clone(),
                    size: *size,
                    heap: heap.name.clone(),
                    spread,
                    is_prepared: *operation == Operation::Warm && is_prepared(heap),
                    threads,
                });
            }
        }
    }
    output.print(
        || json!({ "measured": all.iter().map(|one| to_json(one, &all)).collect::<Vec<_>>() }),
        || Ok(table(&all)),
    )
}

/// Whether the module keeps memory for a heap. It keeps none of contiguous areas.
fn is_prepared(heap: &Heap) -> bool {
    heap.exporter == Exporter::Module && heap.contiguous == Some(false)
}

/// All heaps that may be opened, or one, and what it is compared with.
fn heaps(
    system: &System,
    output: &Output,
    arguments: &Bench,
) -> Result<Vec<(Heap, Allocator)>, Error> {
    let handle = arguments.heap.as_deref();
    let mut heaps = super::open_heaps(system, output, handle)?;
    if handle.is_some() && heaps.iter().all(|(heap, _)| heap.name != BASELINE) {
        let baseline = system.heap(BASELINE);
        let baseline = baseline.and_then(|heap| Ok((heap.open()?, heap)));
        heaps.extend(baseline.ok().map(|(allocator, heap)| (heap, allocator)));
    }
    Ok(heaps)
}

/// Written 3, the kernel asks everyone to give back what is not needed.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// A heap and a size.
struct Case<'a> {
    allocator: &'a Allocator,
    size: u64,
    samples: u32,
    threads: &'a Threads,
}

type Samples = Result<Vec<Duration>, Error>;

impl Case<'_> {
    /// How long it takes, and how long the module's threads work for it.
    fn measure(
        &self,
        operation: &Operation,
    ) -> Result<(Result<Spread, String>, Option<Duration>), Error> {
        let mut threads = None;
        let samples = match operation {
            Operation::Cold => self.cold(),
            Operation::Warm => self.warm(&mut threads),
            Operation::Map => self.map(),
            Operation::Bracket => self.bracket(),
            Operation::Import(node) => self.import(node),
        };
        match samples {
            Ok(samples) => Ok((Ok(Spread::of(samples)), threads)),
            // The others go on.
            Err(error @ (Error::NoMemory { .. } | Error::CannotTry { .. } | Error::Io { .. })) => {
                Ok((Err(error.to_string()), None))
            }
            Err(error) => Err(error),
        }
    }

    fn allocate(&self) -> Result<Buffer, Error> {
        self.allocator
            .alloc(&Request::new(self.size).name("dmaheap bench"))
    }

    fn cold(&self) -> Samples {
        self.repeat(|| {
            self.threads.settle();
            // It was seen that this may be done.
            let _ = fs::write(DROP_CACHES, "3");
            time(|| self.allocate()).map(|(_, time)| time)
        })
    }

    fn warm(&self, threads: &mut Option<Duration>) -> Samples {
        drop(self.allocate()?);
        self.threads.settle();
        let before = self.threads.worked();
        let samples = self.repeat(|| {
            let (buffer, time) = time(|| self.allocate())?;
            drop(buffer);
            self.threads.settle();
            Ok(time)
        });
        let worked = self.threads.worked().zip(before);
        *threads = worked.map(|(after, before)| after.saturating_sub(before) / self.samples);
        samples
    }

    fn map(&self) -> Samples {
        let page = rustix::param::page_size();
        self.repeat(|| {
            let buffer = self.allocate()?;
            let size = buffer.size();
            let (mut mapped, mapping) = time(|| buffer.map())?;
            let mut access = mapped.write()?;
            let ((), touching) = time(|| {
                (0..size)
                    .step_by(page)
                    .try_for_each(|offset| access.copy_from(offset, &[1]))
            })?;
            access.end()?;
            Ok(mapping + touching)
        })
    }

    fn bracket(&self) -> Samples {
        let mut mapped = self.allocate()?.map()?;
        self.repeat(|| time(|| mapped.read_write()?.end()).map(|((), time)| time))
    }

    fn import(&self, node: &PathBuf) -> Samples {
        let buffer = self.allocate()?;
        self.repeat(|| dmaheap::time_import(node, &buffer))
    }

    fn repeat(&self, sample: impl FnMut() -> Result<Duration, Error>) -> Samples {
        std::iter::repeat_with(sample)
            .take(self.samples as usize)
            .collect()
    }
}

fn time<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<(T, Duration), Error> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed()))
}

impl Spread {
    /// Median and quartiles of at least one sample.
    fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
        Self {
            lower: at(1),
            median: at(2),
            upper: at(3),
        }
    }
}

impl Operation {
    fn name(&self) -> &'static str {
        match self {
            Self::Cold => "alloc-cold",
            Self::Warm => "alloc-warm",
            Self::Map => "map",
            Self::Bracket => "bracket",
            Self::Import(_) => "import",
        }
    }

    fn node(&self) -> Option<String> {
        match self {
            Self::Import(node) => Some(node.display().to_string()),
            _ => None,
        }
    }
}

impl Measured {
    /// How many times as fast it is as the same with the heap that others are compared with.
    fn ratio(&self, all: &[Self]) -> Option<f64> {
        let is_baseline = |one: &&Self| {
            one.heap == BASELINE && (&one.operation, one.size) == (&self.operation, self.size)
        };
        let baseline = all.iter().find(is_baseline)?.spread.as_ref().ok()?.median;
        let median = self.spread.as_ref().ok()?.median;
        (!median.is_zero()).then(|| baseline.as_secs_f64() / median.as_secs_f64())
    }
}

/// The nodes are below the lines, as they are longer than a column should be.
fn table(all: &[Measured]) -> Table {
    const HEADINGS: [&str; 7] = [
        "OPERATION",
        "SIZE",
        "HEAP",
        "LOWER",
        "MEDIAN",
        "UPPER",
        "RATIO",
    ];
    let mut table = Table::new(&HEADINGS, &["node", "threads", "why"]);
    for one in all {
        let spread = one.spread.as_ref().ok();
        let cell = |time: fn(&Spread) -> Duration| {
            Cell::number(Some(
                spread.map_or_else(|| "-".into(), |spread| show(time(spread))),
            ))
        };
        let ratio = one.ratio(all).map(|ratio| format!("{ratio:.2}"));
        table.row([
            Cell::text(one.operation.name()),
            Cell::number(Some(size::show(one.size))),
            Cell::text(&one.heap),
            cell(|spread| spread.lower),
            cell(|spread| spread.median),
            cell(|spread| spread.upper),
            Cell::number(Some(ratio.unwrap_or_else(|| "-".into()))),
        ]);
        table.list("node", one.operation.node().into_iter().collect());
        let threads = one.is_prepared.then(|| match one.threads {
            Some(worked) => format!("{} of CPU time beforehand, for zeroing", show(worked)),
            None => "zeroed it beforehand; this kernel does not count the work".into(),
        });
        table.sentence("threads", threads.as_deref());
        table.sentence("why", one.spread.as_ref().err().map(String::as_str));
    }
    table
}

fn to_json(one: &Measured, all: &[Measured]) -> Value {
    let spread = one.spread.as_ref().ok();
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "operation": one.operation.name(),
        "node": one.operation.node(),
        "size": one.size,
        "heap": one.heap,
        "lower_quartile": spread.map(|spread| nanoseconds(spread.lower)),
        "median": spread.map(|spread| nanoseconds(spread.median)),
        "upper_quartile": spread.map(|spread| nanoseconds(spread.upper)),
        "ratio": one.ratio(all),
        "threads": one.threads.map(nanoseconds),
        "problem": one.spread.as_ref().err(),
    })
}

/// Three digits and a unit, rounded.
fn show(time: Duration) -> String {
    const UNITS: [&str; 4] = ["ns", "us", "ms", "s"];
    let mut value = time.as_nanos() as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(heap: &str, micros: Option<u64>) -> Measured {
        let spread = micros.map(|micros| Spread::of(vec![Duration::from_micros(micros)]));
        Measured {
            operation: Operation::Warm,
            size: 4096,
            heap: heap.into(),
            spread: spread.ok_or_else(|| "no memory".into()),
            is_prepared: false,
            threads: None,
        }
    }

    #[test]
    fn times_are_shown() {
        for (nanos, shown) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 us"),
            (12_345, "12.3 us"),
            (999_400, "999 us"),
            (999_600, "1.00 ms"),
            (99_960_000, "100 ms"),
            (1_500_000_000, "1.50 s"),
            (5_000_000_000_000, "5000 s"),
        ] {
            assert_eq!(show(Duration::from_nanos(nanos)), shown);
        }
    }

    #[test]
    fn samples_have_a_median_and_quartiles() {
        let spread = |samples: &[u64]| {
            let samples = samples.iter().copied().map(Duration::from_nanos);
            let spread = Spread::of(samples.collect());
            [spread.lower, spread.median, spread.upper].map(|time| time.as_nanos())
        };
        assert_eq!(spread(&[7]), [7, 7, 7]);
        assert_eq!(spread(&[5, 1, 4, 2, 3]), [2, 3, 4]);
        assert_eq!(spread(&[9, 1]), [1, 1, 1]);
    }

    #[test]
    fn ratios_are_to_the_heap_system() {
        let all = [
            measured("system", Some(30)),
            measured("quick", Some(10)),
            measured("none", None),
        ];
        let ratios: Vec<_> = all.iter().map(|one| one.ratio(&all)).collect();
        assert_eq!(ratios, [Some(1.0), Some(3.0), None]);
        assert_eq!(all[1].ratio(&all[1..]), None);
        let larger = Measured {
            size: 8192,
            ..measured("quick", Some(10))
        };
        assert_eq!(larger.ratio(&all), None);
    }
}
