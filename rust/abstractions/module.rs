// SPDX-License-Identifier: GPL-2.0

//! One reference on this module, as a value.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)
//!
//! # Examples
//!
//! ```ignore
//! let module = ModuleRef::try_get().ok_or(ENODEV)?; // the module cannot be unloaded from here ...
//! let pending = module.clone();
//! drop(pending);
//! drop(module); // ... to here
//! ```

use crate::{
    bindings,
    THIS_MODULE, //
};
use core::mem::size_of;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// One reference on this module, put when it is dropped.
///
/// Zero-sized and interchangeable: any two are the same, so that the one a pending work owns can
/// be rebuilt from the work's address alone.
///
/// The few instructions between the last put and the return of the function that did it are
/// protected by nothing but what else holds the module's text there: a work item of an own queue
/// (destroyed at exit), an open file, a running attribute store. See `dm` commit be35f4861080.
///
/// # Invariants
///
/// Every instance stands for exactly one reference on `THIS_MODULE`.
#[must_use = "the reference is put at once when it is not kept"]
pub(crate) struct ModuleRef(());

impl ModuleRef {
    /// Takes a reference, unless the module's init has not yet succeeded or its unload has begun.
    ///
    /// During init `try_module_get` alone would succeed, but a failing init frees the module
    /// whatever its count says.
    ///
    /// Any context.
    pub(crate) fn try_get() -> Option<Self> {
        let module = THIS_MODULE.as_ptr();
        // SAFETY: `THIS_MODULE` is valid as long as this code runs; `state` is written by the
        // module loader without a lock that we could take, hence the volatile read.
        let state = unsafe { core::ptr::addr_of!((*module).state).read_volatile() };
        if state != bindings::module_state_MODULE_STATE_LIVE {
            return None;
        }
        // SAFETY: `THIS_MODULE` is valid as long as this code runs.
        if unsafe { bindings::try_module_get(module) } {
            // INVARIANT: `try_module_get` has just taken the reference.
            Some(Self(()))
        } else {
            None
        }
    }

    /// Gives up the value, but not the reference.
    ///
    /// What stands for the reference afterwards must end in [`ModuleRef::from_leaked`].
    pub(super) fn leak(self) {
        const { assert!(size_of::<Self>() == 0) };
        core::mem::forget(self);
    }

    /// Makes the value again that was given up by [`ModuleRef::leak`].
    ///
    /// # Safety
    ///
    /// Must be called at most once for each call of [`ModuleRef::leak`].
    pub(super) unsafe fn from_leaked() -> Self {
        // INVARIANT: The caller promises that a reference was leaked for this.
        Self(())
    }
}

impl Clone for ModuleRef {
    /// Takes one more reference. Cannot fail: `self` keeps the module from being unloaded.
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant `self` holds a reference, so the count is not zero.
        unsafe { bindings::__module_get(THIS_MODULE.as_ptr()) };
        // INVARIANT: `__module_get` has just taken the reference.
        Self(())
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a reference to put.
        unsafe { bindings::module_put(THIS_MODULE.as_ptr()) };
    }
}

/// The number of references on this module, as `/sys/module/rmpath/refcnt` shows it.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn refcount() -> i32 {
    // SAFETY: `THIS_MODULE` is valid as long as this code runs.
    unsafe { bindings::module_refcount(THIS_MODULE.as_ptr()) }
}

/// What [`ModuleRef::try_get`] answered when [`record_during_init`] asked: 0 not asked, 1 none.
static DURING_INIT: Atomic<u32> = Atomic::new(0);

/// Tries to take a reference while init runs, for the test that there is none to be had then.
pub(crate) fn record_during_init() {
    let answer = if ModuleRef::try_get().is_none() { 1 } else { 2 };
    DURING_INIT.store(answer, Relaxed);
}

/// Whether [`record_during_init`] ran and was refused the reference.
#[cfg(CONFIG_KUNIT = "y")]
fn was_refused_during_init() -> bool {
    DURING_INIT.load(Relaxed) == 1
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_module)]
mod tests {
    use super::*;

    #[test]
    fn get_and_drop_balance() -> Result {
        let before = refcount();
        let one = ModuleRef::try_get().ok_or(ENODEV)?;
        let with_one = refcount();
        let two = one.clone();
        let with_two = refcount();
        drop(one);
        drop(two);
        let after = refcount();

        assert_eq!(with_one, before + 1);
        assert_eq!(with_two, before + 2);
        assert_eq!(after, before);
        Ok(())
    }

    #[test]
    fn leak_keeps_the_reference() -> Result {
        let before = refcount();
        ModuleRef::try_get().ok_or(ENODEV)?.leak();
        let leaked = refcount();
        // SAFETY: One reference was leaked above.
        drop(unsafe { ModuleRef::from_leaked() });
        let after = refcount();

        assert_eq!(leaked, before + 1);
        assert_eq!(after, before);
        Ok(())
    }

    #[test]
    fn none_during_init() {
        assert!(was_refused_during_init());
    }
}
