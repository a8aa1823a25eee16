// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap pick`

use super::Pick;
use super::output::{Output, printable, to_json};
use anyhow::Result;
use dmaheap::{Choice, Device, Error, System};
use serde_json::json;
use std::process::ExitCode;

pub fn run(system: &System, output: &Output, pick: &Pick) -> Result<ExitCode> {
    let devices = super::devices(system, &pick.devices)?;
    let choice = super::choose(system, &devices, &pick.wanted, pick.size)?;
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
        return Ok(match best {
            Ok(_) => ExitCode::SUCCESS,
            Err(problem) => super::status(&Error::from(problem).into()),
        });
    }
    let path = best.as_ref().map(|best| best.node.display().to_string());
    let mut lines: Vec<_> = path.into_iter().collect();
    if pick.explain {
        lines.extend(explanation(&devices, &choice));
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    output.line(&text)?;
    best.map_err(Error::from)?;
    Ok(ExitCode::SUCCESS)
}

/// What the devices need, and why and why not.
fn explanation(devices: &[Device], choice: &Choice) -> Vec<String> {
    let needs = devices.iter().filter_map(|device| {
        let constraints = device.constraints.as_ref()?;
        Some(format!("{}: {constraints}", device.name))
    });
    let best = choice.best().ok();
    let fits = choice.fits().iter().map(|fit| {
        let heap = &fit.heap;
        let verdict = match best {
            Some(best) if best.name == heap.name => "the best that fits and may be opened",
            _ if heap.access.is_allowed() => "fits, and stands behind the best",
            _ => "fits, and may not be opened by you",
        };
        let (worst, sum) = (fit.worst_place, fit.sum_of_places);
        let name = &heap.name;
        format!("{name}: {verdict} (worst place {worst}, sum of places {sum})")
    });
    let objections = choice.objections().iter().map(ToString::to_string);
    let lines = needs.chain(fits).chain(objections);
    lines.map(|line| printable(&line)).collect()
}
