// SPDX-License-Identifier: GPL-2.0

//! What the sources here misuse: an object with a delayed and a plain work item.

pub(super) use crate::abstractions::{
    module::ModuleRef,
    workqueue::{
        arm,
        cancel_sync,
        disarm,
        impl_has_token_work,
        impl_runs_on,
        Queue,
        QueueKind,
        RunsOn,
        Token, //
    },
};
pub(super) use kernel::{
    impl_has_delayed_work,
    prelude::*,
    sync::Arc,
    workqueue::{
        new_delayed_work,
        new_work,
        DelayedWork,
        Work,
        WorkItem, //
    },
};

/// Its token holds a reference on the module.
pub(super) const TIMER: u64 = 0;
/// Its token does not.
pub(super) const PLAIN: u64 = 1;

#[pin_data]
pub(super) struct Thing {
    pub(super) value: u32,
    queue: Queue,
    #[pin]
    timer: DelayedWork<Self, TIMER>,
    #[pin]
    plain: Work<Self, PLAIN>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, TIMER> for Thing { self.timer }
}
impl_runs_on! {
    impl RunsOn<TIMER> for Thing { self.queue }
}
impl_has_token_work! {
    impl HasPlainWork<PLAIN> for Thing { self.plain }
}

impl Thing {
    pub(super) fn init(queue: Queue) -> impl PinInit<Self> {
        pin_init!(Self {
            value: 0,
            queue,
            timer <- new_delayed_work!("rmpath_misuse"),
            plain <- new_work!("rmpath_misuse"),
        })
    }
}

impl WorkItem<TIMER> for Thing {
    type Pointer = Token<Self, ModuleRef>;

    fn run(token: Self::Pointer) {
        drop(token);
    }
}

impl WorkItem<PLAIN> for Thing {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        drop(token);
    }
}
