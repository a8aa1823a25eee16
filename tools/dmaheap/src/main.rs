// SPDX-License-Identifier: MIT OR GPL-2.0

//! The command `dmaheap`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
