// SPDX-License-Identifier: GPL-2.0

//! A process that carries out a random sequence of actions, and keeps a model of their results.

use super::action::{self, Action, Kind};
use super::content::Content;
use super::state::{Live, SHARED, State, Usage};
use super::tally::{Outcome, Tally};
use crate::heap::Buffer;
use anyhow::{Context as _, Result};
use clap::Args;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::io::Read as _;

/// How many of the last actions are shown when something fails.
const RECENT: usize = 12;

#[derive(Args, Clone, Debug)]
pub struct Worker {
    #[arg(long)]
    pub seed: u64,
    #[arg(long)]
    pub round: u64,
    #[arg(long)]
    pub worker: u64,
    #[arg(long)]
    pub actions: usize,
    /// The parent's descriptor of the shared buffer
    #[arg(long)]
    pub shared: i32,
}

/// The report of a worker that is done. It keeps its buffers until it is told to end.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    Through { usage: Usage, tally: Tally },
    Failed { why: String, recent: Vec<String> },
}

impl Worker {
    pub fn run(&self) -> Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut rng = action::rng(self.seed, self.round, self.worker);
        let script = action::script(&mut rng, self.actions);
        let mut tally = Tally::default();
        let mut at = 0;
        let mut state = State::new()?;
        let result = self
            .share(&mut state)
            .and_then(|()| self.act(&mut state, &script, &mut at, &mut tally));
        let said = match result {
            Ok(()) => Said::Through {
                usage: state.usage(),
                tally,
            },
            Err(error) => Said::Failed {
                why: format!("worker {}, action {at}: {error:#}", self.worker),
                recent: script[..=at.min(script.len() - 1)]
                    .iter()
                    .enumerate()
                    .skip((at + 1).saturating_sub(RECENT))
                    .map(|(number, action)| format!("{number}: {action:?}"))
                    .collect(),
            },
        };
        println!("{}", serde_json::to_string(&said)?);
        // The worker keeps everything until all buffers have been counted.
        std::io::stdin().read_to_end(&mut Vec::new())?;
        if rng.bool() {
            // The kernel has to undo everything.
            std::process::exit(0);
        }
        let tag = rng.u64(..);
        for slot in state.slots(rng.usize(..=SHARED)) {
            state.release(slot, tag)?;
        }
        Ok(())
    }

    /// Gets a descriptor of the shared buffer, which the parent has filled.
    fn share(&self, state: &mut State) -> Result<()> {
        let parent = rustix::process::getppid().context("no parent")?;
        let parent = rustix::process::pidfd_open(parent, PidfdFlags::empty())?;
        let fd = rustix::process::pidfd_getfd(parent, self.shared, PidfdGetfdFlags::empty())
            .context("getting at the shared buffer")?;
        let buffer = Buffer::from_fd(fd)?;
        let mut content = Content::zeroed(buffer.size() / crate::mapping::page_size());
        content.fill(0, content.pages(), super::shared_tag(self.seed, self.round));
        let heap = buffer.fdinfo("exp_name")?;
        let heap = state.heaps.iter().position(|(name, _)| *name == heap);
        state.lives[SHARED] = Some(Live::new(heap.context("a heap")?, content, buffer));
        Ok(())
    }

    fn act(
        &self,
        state: &mut State,
        script: &[Action],
        at: &mut usize,
        tally: &mut Tally,
    ) -> Result<()> {
        for (number, action) in script.iter().enumerate() {
            *at = number;
            let outcome = perform(state, action)?;
            outcome.expect_allowed(action.kind)?;
            tally.add(action.kind, outcome);
        }
        state.verify()
    }
}

fn perform(state: &mut State, action: &Action) -> Result<Outcome> {
    match action.kind {
        Kind::Release => state.release(action.slot, action.tag),
        Kind::Fuzz => state.fuzz(action),
        Kind::Bracket
        | Kind::Fence
        | Kind::Pending
        | Kind::Query
        | Kind::Name
        | Kind::Links
        | Kind::Files => state.ask(action),
        Kind::Device
        | Kind::Attach
        | Kind::Detach
        | Kind::DeviceMap
        | Kind::DeviceUnmap
        | Kind::DeviceWrite
        | Kind::DeviceRead
        | Kind::Vmap
        | Kind::Vunmap
        | Kind::KernelWrite
        | Kind::KernelRead => state.use_devices(action),
        Kind::Card | Kind::Prime | Kind::Export | Kind::CloseHandle => state.use_cards(action),
        Kind::Camera | Kind::Converter | Kind::Stream | Kind::Unqueue => state.use_video(action),
        _ => state.use_memory(action),
    }
}
