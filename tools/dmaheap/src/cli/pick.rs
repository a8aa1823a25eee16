// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap pick`

use super::Pick;
use super::output::{Output, to_json};
use anyhow::Result;
use dmaheap::{Choice, Error, System};
use serde_json::json;
use std::process::ExitCode;

pub fn run(system: &System, output: &Output, pick: &Pick) -> Result<ExitCode> {
    let devices = super::devices(system, &pick.devices)?;
    let choice = super::choose(system, &devices, &pick.wanted, pick.size)?;
    if pick.explain {
        for device in &devices {
            if let Some(constraints) = &device.constraints {
                output.note(&format!("{}: {constraints}", device.name));
            }
        }
        explain(&choice, output);
    }
    let best = choice.best();
    if output.is_json() {
        output.value(json!({
            "heap": best.as_ref().ok().map(|heap| to_json(*heap)),
            "problem": best.as_ref().err().map(ToString::to_string),
            "fits": to_json(&choice.fits()),
            "objections": choice.objections().iter().map(|objection| {
                let mut value = to_json(objection);
                value["sentence"] = objection.to_string().into();
                value
            }).collect::<Vec<_>>(),
        }))?;
    }
    match best {
        Err(problem) if output.is_json() => Ok(super::status(&Error::from(problem).into())),
        Err(problem) => Err(Error::from(problem).into()),
        Ok(_) if output.is_json() => Ok(ExitCode::SUCCESS),
        Ok(best) => {
            output.line(&format!("{}\n", best.node.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says why and why not.
fn explain(choice: &Choice, output: &Output) {
    let best = choice.best().ok();
    for fit in choice.fits() {
        let heap = &fit.heap;
        let verdict = match best {
            Some(best) if best.name == heap.name => "the best that fits and may be opened",
            _ if heap.access.is_allowed() => "fits, and stands behind the best",
            _ => "fits, and may not be opened by you",
        };
        let (worst, sum) = (fit.worst_place, fit.sum_of_places);
        output.note(&format!(
            "{}: {verdict} (worst place {worst}, sum of places {sum})",
            heap.name
        ));
    }
    for objection in choice.objections() {
        output.note(&objection.to_string());
    }
}
