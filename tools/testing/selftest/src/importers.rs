// SPDX-License-Identifier: GPL-2.0

//! Everything in this system that can import a dma-buf.

use crate::camera::Camera;
use crate::drm_node::Card;
use crate::importer::Importer;
use anyhow::Result;

/// All importers of the system.
pub fn all() -> Result<Vec<Box<dyn Importer>>> {
    let cards = Card::all()?.into_iter().map(|card| Box::new(card) as _);
    let cameras = Camera::all()?
        .into_iter()
        .map(|camera| Box::new(camera) as _);
    Ok(cards.chain(cameras).collect())
}
