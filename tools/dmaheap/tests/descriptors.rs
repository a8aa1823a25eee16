// SPDX-License-Identifier: MIT OR GPL-2.0

//! A process that may open no more files. Its limit is for all of its threads, so this test has a
//! program of its own.

mod tree;

use dmaheap::{Error, Result};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tree::{OTHERS, Tree};

/// What cannot be looked at is not as if it were not there.
#[test]
fn without_descriptors_nothing_is_taken_for_absent() {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    let system = tree.system();
    let vivid = system.device("vivid.0").unwrap();

    let usual = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..usual
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let results = [
        ("heaps", system.heaps().map(drop)),
        ("heap", system.heap("system").map(drop)),
        ("devices", system.devices().map(drop)),
        ("device", system.device("vivid.0").map(drop)),
        ("choose", system.choose(&[vivid]).map(drop)),
        ("holders", system.holders(None).map(drop)),
        ("process", system.holders(Some(1)).map(drop)),
    ];
    setrlimit(Resource::Nofile, usual).unwrap();
    for (name, result) in results {
        assert!(is_told(&result), "{name}: {result:?}");
    }
}

fn is_told(result: &Result<()>) -> bool {
    match result {
        Err(error @ Error::Io { cause, .. }) => {
            Errno::from_io_error(cause) == Some(Errno::MFILE)
                && error.to_string().ends_with("raise the limit (ulimit -n)")
        }
        _ => false,
    }
}
