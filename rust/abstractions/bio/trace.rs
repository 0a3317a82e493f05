// SPDX-License-Identifier: GPL-2.0

//! The block layer's tracepoints: an external module written in Rust cannot have its own.
//!
//! C header: [`include/trace/events/block.h`](srctree/include/trace/events/block.h)

use crate::bindings;

/// Tells who traces the block layer that `bio` carries what was submitted as `orig`
/// (`block_bio_remap`). One instruction that does nothing, as long as nobody does.
///
/// # Safety
///
/// Both must be valid and the caller's; `bio` must have its device and its sector.
#[inline(always)]
pub(super) unsafe fn bio_remap(bio: *mut bindings::bio, orig: *mut bindings::bio) {
    #[cfg(CONFIG_TRACEPOINTS)]
    {
        // SAFETY: The key is part of a tracepoint of the kernel, which is never freed.
        let traced = unsafe {
            kernel::jump_label::static_branch_unlikely!(
                bindings::__tracepoint_block_bio_remap,
                bindings::tracepoint,
                key
            )
        };
        if traced {
            // SAFETY: By this function's requirements.
            unsafe { bindings::rmpath_trace_block_bio_remap(bio, orig) };
        }
    }
    #[cfg(not(CONFIG_TRACEPOINTS))]
    let _ = (bio, orig);
}

/// Whether somebody traces how bios end (`block_bio_complete`).
#[inline(always)]
pub(super) fn completions() -> bool {
    #[cfg(CONFIG_TRACEPOINTS)]
    {
        // SAFETY: The key is part of a tracepoint of the kernel, which is never freed.
        unsafe {
            kernel::jump_label::static_branch_unlikely!(
                bindings::__tracepoint_block_bio_complete,
                bindings::tracepoint,
                key
            )
        }
    }
    #[cfg(not(CONFIG_TRACEPOINTS))]
    false
}
