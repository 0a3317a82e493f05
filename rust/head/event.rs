// SPDX-License-Identifier: GPL-2.0

//! What user space is told: `KOBJ_CHANGE` of the head's disk, with variables modelled on those of
//! dm's path events.
//!
//! Paths fail in any context, events are sent by a work item. Who changes something calls
//! [`Head::notify`], and the item compares what there is with what it has told last: changes that
//! come close together are one event, and the last state is always told.

use super::{
    Head,
    Inner,
    State,
    EVENT, //
};
use crate::abstractions::{
    block_device::DevT,
    gendisk::DiskRef,
    memalloc::NoIo,
    workqueue::Token, //
};
use kernel::{
    prelude::*,
    str::CString,
    sync::ArcBorrow,
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::WorkItem, //
};

/// As [`PathState`](crate::mpath::path::PathState) names it.
const FAILED: &str = "failed";
const DEAD: &str = "dead";

/// What there is to tell.
struct News {
    action: &'static str,
    /// The path's number, and its state.
    path: Option<(DevT, &'static str)>,
    usable: usize,
    state: State,
}

/// What a path's change of state is called. `None` if there is nothing to tell: a dead path leaves
/// soon, which is told then.
fn action(told: Option<&str>, now: &str) -> Option<&'static str> {
    match (told, now) {
        (Some(told), now) if told == now => None,
        (_, DEAD) => None,
        (None, _) => Some("PATH_ADDED"),
        (_, FAILED) => Some("PATH_FAILED"),
        (Some(FAILED), _) => Some("PATH_REINSTATED"),
        _ => Some("PATH_CHANGED"),
    }
}

impl News {
    fn variables(&self) -> Result<KVec<CString>> {
        let mut list = KVec::with_capacity(5, GFP_KERNEL)?;
        let mut add = |variable| -> Result { Ok(list.push(variable, GFP_KERNEL)?) };
        add(CString::try_from_fmt(fmt!(
            "RMPATH_ACTION={}",
            self.action
        ))?)?;
        if let Some((dev, state)) = &self.path {
            add(CString::try_from_fmt(fmt!("RMPATH_PATH={dev}"))?)?;
            add(CString::try_from_fmt(fmt!("RMPATH_PATH_STATE={state}"))?)?;
        }
        add(CString::try_from_fmt(fmt!(
            "RMPATH_NR_VALID_PATHS={}",
            self.usable
        ))?)?;
        add(CString::try_from_fmt(fmt!(
            "RMPATH_STATE={}",
            self.state.name()
        ))?)?;
        Ok(list)
    }

    /// Tells it, whatever memory there is.
    fn send(&self, disk: &DiskRef) {
        loop {
            let sent = self
                .variables()
                .and_then(|variables| disk.changed_in(&variables));
            match sent {
                Err(ENOMEM) => fsleep(Delta::from_millis(10)),
                // Or the disk is going: that is told by others.
                _ => return,
            }
        }
    }
}

impl Inner {
    /// The next thing that has not been told, which is taken for told from now on.
    fn next_news(&mut self) -> Option<News> {
        let usable = self.usable().count();
        let state = self.state;
        let path = self.members.iter_mut().find_map(|member| {
            let open = member.open.as_ref()?;
            let now = member.handle.state.name();
            let action = action(member.told, now)?;
            member.told = Some(now);
            Some((action, Some((open.path.device().dev(), now))))
        });
        let (action, path) = match path {
            Some(news) => news,
            None if self.told != state => {
                self.told = state;
                ("STATE_CHANGED", None)
            }
            None => return None,
        };
        Some(News {
            action,
            path,
            usable,
            state,
        })
    }

    fn disk(&self) -> Option<DiskRef> {
        Some(self.visible.as_ref()?.disk.reference())
    }
}

impl Head {
    /// Something may have changed that user space is told. Any context.
    pub(super) fn notify(this: ArcBorrow<'_, Self>) {
        // If it is queued already, it will see the change. The token that comes back is not the last
        // reference: the caller has one.
        drop(
            this.shared
                .events
                .enqueue::<EVENT, _, _>(Token::of(this.into())),
        );
    }

    /// A path whose arrival was told has left. May sleep.
    pub(super) fn tell_removed(&self, dev: DevT) {
        // After what is being told of it.
        let telling = self.telling.lock();
        let inner = self.inner.lock();
        let disk = inner.disk();
        let news = News {
            action: "PATH_REMOVED",
            path: Some((dev, DEAD)),
            usable: inner.usable().count(),
            state: inner.state,
        };
        drop(inner);
        if let Some(disk) = &disk {
            news.send(disk);
        }
        drop(telling);
        drop(disk);
    }

    fn tell(&self) {
        let _no_io = NoIo::enter();
        let telling = self.telling.lock();
        let disk = self.inner.lock().disk();
        if let Some(disk) = &disk {
            loop {
                let news = self.inner.lock().next_news();
                let Some(news) = news else { break };
                news.send(disk);
            }
        }
        drop(telling);
        drop(disk);
    }
}

impl WorkItem<EVENT> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        token.object().tell();
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_event)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_names() {
        assert_eq!(action(None, "optimized"), Some("PATH_ADDED"));
        assert_eq!(action(None, "failed"), Some("PATH_ADDED"));
        assert_eq!(action(Some("optimized"), "failed"), Some("PATH_FAILED"));
        assert_eq!(action(Some("failed"), "optimized"), Some("PATH_REINSTATED"));
        assert_eq!(
            action(Some("failed"), "inaccessible"),
            Some("PATH_REINSTATED")
        );
        assert_eq!(
            action(Some("optimized"), "non-optimized"),
            Some("PATH_CHANGED")
        );
    }

    #[test]
    fn what_is_no_news_is_not_told() {
        assert_eq!(action(Some("failed"), "failed"), None);
        assert_eq!(action(Some("optimized"), "dead"), None);
        assert_eq!(action(None, "dead"), None);
    }
}
