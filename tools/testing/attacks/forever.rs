// SPDX-License-Identifier: GPL-2.0

// A proof that the module stays, by a module that does not.

use crate::kernel::module::Forever;

fn forever() -> Forever {
    Forever::new()
}
