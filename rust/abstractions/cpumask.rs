// SPDX-License-Identifier: GPL-2.0

//! Sets of CPUs as text, and where a CPU is.
//!
//! The kernel crate's [`Cpumask`] has no text form.
//!
//! C header: [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h)
//!
//! # Examples
//!
//! ```ignore
//! let mask = parse(c"f")?;
//! assert!(cpus().take(4).all(|cpu| mask.test(cpu)));
//! ```

use super::numa::Node;
use crate::bindings;
use kernel::{
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    cpumask::{
        Cpumask,
        CpumaskVar, //
    },
    error::to_result,
    prelude::*, //
};

/// All CPUs that this machine may have, in order.
pub(crate) fn cpus() -> impl Iterator<Item = CpuId> {
    (0..nr_cpu_ids()).filter_map(CpuId::from_u32)
}

/// The set that a mask in hexadecimal digits means, in groups of eight with commas between them.
///
/// `EINVAL` if it is none, `EOVERFLOW` if it has CPUs that this kernel cannot have, `ENOMEM`. May
/// sleep.
pub(crate) fn parse(text: &CStr) -> Result<CpumaskVar> {
    let mask = CpumaskVar::new_zero(GFP_KERNEL)?;
    // SAFETY: The text ends with a 0, and the mask is ours to write.
    to_result(unsafe { bindings::rmpath_cpumask_parse(text.as_char_ptr(), mask.as_raw()) })?;
    Ok(mask)
}

/// The mask as [`parse`] reads it, for all CPUs that this machine may have. `ENOMEM`. May sleep.
pub(crate) fn text(mask: &Cpumask) -> Result<KVec<u8>> {
    // A digit for four CPUs, a comma for 32, and a 0.
    let room = nr_cpu_ids() as usize / 4 + nr_cpu_ids() as usize / 32 + 3;
    let mut text = KVec::with_capacity(room, GFP_KERNEL)?;
    let buffer: *mut u8 = text.as_mut_ptr();
    // SAFETY: There is room for so many bytes; the mask is valid.
    let len = unsafe { bindings::rmpath_cpumask_print(buffer.cast(), room, mask.as_raw()) };
    // SAFETY: So many bytes were written, of `room` at most.
    unsafe { text.inc_len(len as usize) };
    Ok(text)
}

/// The node that a CPU is on, if that is known, and there can be such a CPU. Any context.
pub(crate) fn node_of(cpu: CpuId) -> Option<Node> {
    // SAFETY: A `CpuId` is below `nr_cpu_ids`.
    Node::from_raw(unsafe { bindings::rmpath_cpu_to_node(cpu.as_u32()) })
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_cpumask)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() -> Result {
        let first = cpus().next().ok_or(EINVAL)?;
        let mask = parse(c"1")?;
        let others = cpus().skip(1).filter(|cpu| mask.test(*cpu)).count();
        let has_first = mask.test(first);
        let text = text(&mask)?;
        let ends_right = text.last() == Some(&b'1');
        let digits = text.iter().filter(|byte| **byte != b',').count();
        drop((mask, text));

        assert!(has_first);
        assert_eq!(others, 0);
        assert!(ends_right);
        assert_eq!(digits, nr_cpu_ids().div_ceil(4) as usize);
        Ok(())
    }

    #[test]
    fn what_is_no_mask_is_refused() {
        for text in [c"x", c"1x", c"-1", c"1,g"] {
            assert!(parse(text).is_err());
        }
    }

    #[test]
    fn each_cpu_is_somewhere() {
        assert!(cpus().count() >= 1);
        // Numbers below the largest may be of CPUs that there cannot be.
        assert!(cpus().any(|cpu| node_of(cpu).is_some()));
    }
}
