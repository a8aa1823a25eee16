// SPDX-License-Identifier: GPL-2.0

//! The tests, by subject.

mod alloc;
mod answer;
mod bad_input;
mod brackets;
mod fail_nth;
mod fences;
mod hotplug;
mod huge_mmap;
mod import;
mod importer_attach;
mod importer_blocks;
mod importer_data;
mod importer_life;
mod library;
mod limits;
mod links;
mod map;
mod matrix;
mod memory;
mod memory_type;
mod mmap;
mod module;
mod parallel;
mod parts;
mod pool;
mod power;
mod query;
mod race;
mod rounds;
mod samples;
mod security;
mod sync;
mod video;

use crate::options::Options;
use anyhow::Result;

/// A test, run in a process of its own.
pub struct Test {
    /// The subject, a dot, and what is tested.
    pub name: &'static str,
    /// The rule that must hold.
    pub about: &'static str,
    pub run: fn(&Options) -> Result<()>,
}

impl Test {
    const fn new(name: &'static str, about: &'static str, run: fn(&Options) -> Result<()>) -> Self {
        Self { name, about, run }
    }

    pub fn matches(&self, filters: &[String]) -> bool {
        filters.is_empty() || filters.iter().any(|filter| self.name.contains(filter))
    }
}

/// All tests. Those that disturb the system most come last.
pub fn all() -> impl Iterator<Item = &'static Test> {
    let subjects = [
        alloc::TESTS,
        mmap::TESTS,
        huge_mmap::TESTS,
        memory_type::TESTS,
        sync::TESTS,
        fences::TESTS,
        bad_input::TESTS,
        import::TESTS,
        importer_attach::TESTS,
        importer_blocks::TESTS,
        importer_data::TESTS,
        importer_life::TESTS,
        matrix::TESTS,
        brackets::TESTS,
        parts::TESTS,
        parallel::TESTS,
        answer::TESTS,
        query::TESTS,
        security::TESTS,
        limits::TESTS,
        library::TESTS,
        pool::TESTS,
        power::TESTS,
        map::TESTS,
        video::TESTS,
        links::TESTS,
        hotplug::TESTS,
        rounds::TESTS,
        samples::TESTS,
        module::TESTS,
        race::TESTS,
        memory::TESTS,
        fail_nth::TESTS,
    ];
    subjects.into_iter().flatten()
}
