// SPDX-License-Identifier: GPL-2.0

//! Collects samples, and makes measurements of them.

use anyhow::Result;
use dmabuf_coherency_bench::results::{Measurement, Skipped};
use dmabuf_coherency_selftest::background::Background;
use std::time::Instant;

/// How often nothing is measured, to know what measuring takes.
const EMPTY_SAMPLES: usize = 33;

/// What was measured, and where.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    operation: String,
    heap: String,
    at: u64,
}

struct Series {
    key: Key,
    samples: Vec<f64>,
    background: Vec<f64>,
    segments: Option<u32>,
}

/// Collects what is measured on one heap after the other.
pub struct Recorder {
    pub background: Background,
    scattered: bool,
    /// Whether the background threads can only work while nobody else does.
    alone: bool,
    /// Nanoseconds that measuring itself takes.
    overhead: f64,
    heap: String,
    series: Vec<Series>,
    skipped: Vec<Skipped>,
}

impl Recorder {
    pub fn new(scattered: bool, cpus: usize) -> Result<Self> {
        let mut recorder = Self {
            background: Background::find()?,
            scattered,
            alone: cpus == 1,
            overhead: 0.0,
            heap: String::new(),
            series: Vec::new(),
            skipped: Vec::new(),
        };
        let empty = || Ok(recorder.time(|| Ok(()))?.1.own);
        let samples: Result<Vec<f64>> = (0..EMPTY_SAMPLES).map(|_| empty()).collect();
        recorder.overhead = median(samples?).unwrap_or_default();
        Ok(recorder)
    }

    /// What is measured from now on is measured on this heap.
    pub fn on(&mut self, heap: &str) {
        heap.clone_into(&mut self.heap);
    }

    /// Measures `body`. What the background threads do meanwhile is told apart.
    pub fn time<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<(T, Time)> {
        let used = self.background.used()?;
        let start = Instant::now();
        let result = body()?;
        let elapsed = start.elapsed().as_nanos() as f64;
        let background = (self.background.used()? - used) as f64;
        let stolen = if self.alone { background } else { 0.0 };
        let time = Time {
            own: (elapsed - stolen - self.overhead).max(0.0),
            background,
        };
        Ok((result, time))
    }

    pub fn add(&mut self, operation: &str, at: u64, nanoseconds: f64) {
        self.find(operation, at).samples.push(nanoseconds);
    }

    /// What the background threads have done for an operation.
    pub fn add_background(&mut self, operation: &str, at: u64, nanoseconds: f64) {
        if self.background.exists() {
            self.find(operation, at).background.push(nanoseconds);
        }
    }

    pub fn set_segments(&mut self, operation: &str, at: u64, segments: u32) {
        self.find(operation, at).segments = Some(segments);
    }

    /// Notes that an operation could not be measured on this heap.
    pub fn skip(&mut self, operation: &str, reason: String) {
        let skipped = Skipped {
            operation: operation.into(),
            heap: self.heap.clone(),
            reason,
        };
        if !self.skipped.contains(&skipped) {
            self.skipped.push(skipped);
        }
    }

    fn find(&mut self, operation: &str, at: u64) -> &mut Series {
        let key = Key {
            operation: operation.into(),
            heap: self.heap.clone(),
            at,
        };
        let found = self.series.iter().position(|series| series.key == key);
        let index = found.unwrap_or_else(|| {
            self.series.push(Series {
                key,
                samples: Vec::new(),
                background: Vec::new(),
                segments: None,
            });
            self.series.len() - 1
        });
        &mut self.series[index]
    }

    pub fn finish(self) -> (Vec<Measurement>, Vec<Skipped>) {
        let scattered = self.scattered;
        let measurement = |series: Series| {
            let median = median(series.samples.clone())?;
            Some(Measurement {
                operation: series.key.operation,
                heap: series.key.heap,
                scattered,
                at: series.key.at,
                samples: series.samples.len(),
                median,
                min: series.samples.iter().copied().fold(f64::INFINITY, f64::min),
                max: series.samples.iter().copied().fold(0.0, f64::max),
                background: self::median(series.background),
                segments: series.segments,
            })
        };
        let measurements = self.series.into_iter().filter_map(measurement);
        (measurements.collect(), self.skipped)
    }
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    /// Nanoseconds, without what the background threads have stolen.
    pub own: f64,
    /// Nanoseconds that those have worked meanwhile.
    pub background: f64,
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }
}
