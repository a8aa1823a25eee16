// SPDX-License-Identifier: MIT OR GPL-2.0

//! Words that several sentences have in common.

use crate::heap::Access;
use std::path::Path;

/// What to do about a node that may not be opened.
pub(crate) fn denied(node: &Path, access: &Access) -> String {
    let node = node.display();
    match access {
        Access::Denied { group: Some(group) } => format!(
            "you may not open {node}: join the group {group} (usermod -aG {group} USER, then log in \
             again)"
        ),
        Access::Forbidden => format!(
            "you may not open {node}, though its mode allows it: a sandbox, a container's rules for \
             devices or another security policy is in the way"
        ),
        Access::NoNode => format!(
            "no node has the heap's device number, neither {node} nor another: mount devtmpfs on \
             /dev, or give the node to the container (--device {node})"
        ),
        _ => format!(
            "only root may open {node}: a udev rule can give it to a group, as the one that `make \
             install` of dmabuf-coherency puts in place does for its heaps"
        ),
    }
}

/// `a, b and c`.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
