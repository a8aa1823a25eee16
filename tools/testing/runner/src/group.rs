// SPDX-License-Identifier: GPL-2.0

//! A group of tests.

use crate::kit::Kits;
use crate::results::Case;
use anyhow::Result;
use std::time::Instant;

/// Runs the tests of a group.
type Run = dyn Fn(&Kits) -> Result<Vec<Case>> + Send + Sync;

/// Tests that belong together, most often because they need the same guest.
pub struct Group {
    pub name: String,
    pub about: String,
    run: Box<Run>,
}

impl Group {
    pub fn new(
        name: impl Into<String>,
        about: impl Into<String>,
        run: impl Fn(&Kits) -> Result<Vec<Case>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            run: Box::new(run),
        }
    }

    /// Runs its tests. Also returns how many seconds that took.
    pub fn run(&self, kits: &Kits) -> (Vec<Case>, f32) {
        let start = Instant::now();
        let cases = (self.run)(kits)
            .unwrap_or_else(|error| vec![Case::judged("set-up", Some(format!("{error:#}")))]);
        (cases, start.elapsed().as_secs_f32())
    }
}
