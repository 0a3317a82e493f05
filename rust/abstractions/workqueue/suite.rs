// SPDX-License-Identifier: GPL-2.0

//! The cancel-and-put path: who puts the token, on every way a pending item can end.

use super::*;
use crate::abstractions::module::refcount;
use kernel::{
    impl_has_delayed_work,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Completion, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::{
        new_delayed_work,
        new_work,
        DelayedWork, //
    },
};

const TIMER: u64 = 0;
const PLAIN: u64 = 1;

/// Long enough that it never expires within a test, short enough that one that is lost by a bug
/// does not hold up the unload for ever.
const NEVER: Jiffies = 250 * 600;

/// What outlives the object: how often it ran, was dropped, and the gates of a run.
#[pin_data]
struct Record {
    runs: Atomic<u32>,
    drops: Atomic<u32>,
    #[pin]
    started: Completion,
    #[pin]
    gate: Completion,
    #[pin]
    done: Completion,
}

impl Record {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                runs: Atomic::new(0),
                drops: Atomic::new(0),
                started <- Completion::new(),
                gate <- Completion::new(),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// A run says that it has started, waits until it is let through, and lingers for long enough
    /// that who has let it through gets on, unless he waits for its end.
    fn pass_gate(&self) {
        self.started.complete_all();
        self.gate.wait_for_completion();
        fsleep(Delta::from_millis(50));
    }
}

/// What `run` does with its token.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// Drops it.
    Drop,
    /// Says that it started, waits at the gate, drops it.
    Wait,
    /// The same, but arms the item with it again for a time that does not come.
    WaitAndArm,
    /// Arms the item with it again, the first two times.
    Rearm,
}

#[pin_data(PinnedDrop)]
struct Object {
    record: Arc<Record>,
    queue: Arc<Queue>,
    script: Script,
    #[pin]
    timer: DelayedWork<Self, TIMER>,
    #[pin]
    plain: Work<Self, PLAIN>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, TIMER> for Object { self.timer }
}
impl_runs_on! {
    impl RunsOn<TIMER> for Object { self.queue }
}
impl_has_token_work! {
    impl HasPlainWork<PLAIN> for Object { self.plain }
}

#[pinned_drop]
impl PinnedDrop for Object {
    fn drop(self: Pin<&mut Self>) {
        self.record.drops.fetch_add(1, Relaxed);
    }
}

impl Object {
    fn new(queue: &Arc<Queue>, record: &Arc<Record>, script: Script) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                record: record.clone(),
                queue: queue.clone(),
                script,
                timer <- new_delayed_work!("rmpath_test_timer"),
                plain <- new_work!("rmpath_test_plain"),
            }),
            GFP_KERNEL,
        )
    }
}

impl WorkItem<TIMER> for Object {
    type Pointer = Token<Self, ModuleRef>;

    fn run(token: Self::Pointer) {
        let record = token.record.clone();
        let runs = record.runs.fetch_add(1, Relaxed) + 1;
        match token.script {
            Script::Drop => drop(token),
            Script::Wait => {
                record.pass_gate();
                drop(token);
            }
            Script::WaitAndArm => {
                record.pass_gate();
                drop(arm::<TIMER, _, _>(token, NEVER));
            }
            Script::Rearm if runs <= 2 => {
                drop(arm::<TIMER, _, _>(token, 0));
                return;
            }
            Script::Rearm => drop(token),
        }
        record.done.complete_all();
    }
}

impl WorkItem<PLAIN> for Object {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let record = token.record.clone();
        record.runs.fetch_add(1, Relaxed);
        if token.script == Script::Wait {
            record.pass_gate();
        }
        drop(token);
        record.done.complete_all();
    }
}

fn queue() -> Result<Arc<Queue>> {
    Ok(Arc::new(
        Queue::new(c"rmpath_test", QueueKind::Unbound)?,
        GFP_KERNEL,
    )?)
}

fn token(object: &Arc<Object>) -> Result<Token<Object, ModuleRef>> {
    Ok(Token::new(
        object.clone(),
        ModuleRef::try_get().ok_or(ENODEV)?,
    ))
}

/// Arms and disarms from a second thread, for the race test.
#[pin_data]
struct Racer {
    target: Arc<Object>,
    rounds: u32,
    #[pin]
    done: Completion,
    #[pin]
    work: Work<Self, PLAIN>,
}

impl_has_token_work! {
    impl HasPlainWork<PLAIN> for Racer { self.work }
}

impl WorkItem<PLAIN> for Racer {
    type Pointer = Token<Self>;

    fn run(this: Self::Pointer) {
        for round in 0..this.rounds {
            race(&this.target, round);
        }
        this.done.complete_all();
    }
}

/// One round: arm with a delay that is over at once every other time, then disarm.
fn race(object: &Arc<Object>, round: u32) {
    if let Ok(token) = token(object) {
        let delay = if round % 2 == 0 { NEVER } else { 0 };
        drop(arm::<TIMER, _, _>(token, delay));
    }
    drop(disarm::<TIMER, _, _>(&**object));
}

#[kunit_tests(rmpath_workqueue)]
mod tests {
    use super::*;

    #[test]
    fn cancel_while_pending_puts_once() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Drop)?;
        let superseded = arm::<TIMER, _, _>(token(&object)?, NEVER).is_some();
        let pending = refcount();
        let cancelled = disarm::<TIMER, _, _>(&*object);
        let won = cancelled.is_some();
        let kept = refcount();
        drop(cancelled);
        let after = refcount();
        drop(object);
        let (runs, drops) = (record.runs.load(Relaxed), record.drops.load(Relaxed));

        assert!(!superseded);
        assert_eq!(pending, before + 1);
        assert!(won);
        assert_eq!(kept, before + 1);
        assert_eq!(after, before);
        assert_eq!(runs, 0);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn cancel_of_the_last_reference_releases_the_object() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Drop)?;
        drop(arm::<TIMER, _, _>(token(&object)?, NEVER));
        let cancelled = disarm::<TIMER, _, _>(&*object);
        drop(object);
        let held = record.drops.load(Relaxed);
        drop(cancelled);
        let (drops, after) = (record.drops.load(Relaxed), refcount());

        assert_eq!(held, 0);
        assert_eq!(drops, 1);
        assert_eq!(after, before);
        Ok(())
    }

    #[test]
    fn cancel_after_it_ran_puts_nothing() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Drop)?;
        drop(arm::<TIMER, _, _>(token(&object)?, 0));
        record.done.wait_for_completion();
        let ran = refcount();
        let cancelled = disarm_sync::<TIMER, _, _>(&*object).is_some();
        let after = refcount();
        drop(object);
        let drops = record.drops.load(Relaxed);

        assert_eq!(ran, before);
        assert!(!cancelled);
        assert_eq!(after, before);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn cancel_while_idle_puts_nothing() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Drop)?;
        let cancelled = disarm::<TIMER, _, _>(&*object).is_some();
        let cancelled_sync = disarm_sync::<TIMER, _, _>(&*object).is_some();
        let plain = cancel_sync::<PLAIN, _, _>(&*object).is_some();
        let after = refcount();
        drop(object);
        let drops = record.drops.load(Relaxed);

        assert!(!cancelled);
        assert!(!cancelled_sync);
        assert!(!plain);
        assert_eq!(after, before);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn cancel_while_running_leaves_the_put_to_run() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Wait)?;
        drop(arm::<TIMER, _, _>(token(&object)?, 0));
        record.started.wait_for_completion();
        let cancelled = disarm::<TIMER, _, _>(&*object).is_some();
        let running = refcount();
        record.gate.complete_all();
        let cancelled_sync = disarm_sync::<TIMER, _, _>(&*object).is_some();
        let after = refcount();
        drop(object);
        let (runs, drops) = (record.runs.load(Relaxed), record.drops.load(Relaxed));

        assert!(!cancelled);
        assert_eq!(running, before + 1);
        assert!(!cancelled_sync);
        assert_eq!(after, before);
        assert_eq!(runs, 1);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn cancel_sync_gets_what_the_run_arms() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::WaitAndArm)?;
        drop(arm::<TIMER, _, _>(token(&object)?, 0));
        record.started.wait_for_completion();
        record.gate.complete_all();
        let cancelled = disarm_sync::<TIMER, _, _>(&*object);
        let won = cancelled.is_some();
        drop(cancelled);
        let pending = disarm::<TIMER, _, _>(&*object).is_some();
        let after = refcount();
        drop(object);
        let (runs, drops) = (record.runs.load(Relaxed), record.drops.load(Relaxed));

        assert!(won);
        assert!(!pending);
        assert_eq!(after, before);
        assert_eq!(runs, 1);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn arm_when_armed_moves_the_deadline() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Drop)?;
        drop(arm::<TIMER, _, _>(token(&object)?, NEVER));
        let superseded = arm::<TIMER, _, _>(token(&object)?, NEVER / 2);
        let came_back = superseded.is_some();
        let both = refcount();
        drop(superseded);
        let one = refcount();
        // The deadline moves: this would not end otherwise.
        let superseded = arm::<TIMER, _, _>(token(&object)?, msecs_to_jiffies(1));
        let came_back_again = superseded.is_some();
        drop(superseded);
        record.done.wait_for_completion();
        drop(disarm_sync::<TIMER, _, _>(&*object));
        let after = refcount();
        drop(object);
        let (runs, drops) = (record.runs.load(Relaxed), record.drops.load(Relaxed));

        assert!(came_back);
        assert_eq!(both, before + 2);
        assert_eq!(one, before + 1);
        assert!(came_back_again);
        assert_eq!(after, before);
        assert_eq!(runs, 1);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn run_may_arm_again() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Rearm)?;
        drop(arm::<TIMER, _, _>(token(&object)?, 0));
        record.done.wait_for_completion();
        let left = disarm_sync::<TIMER, _, _>(&*object).is_some();
        let after = refcount();
        drop(object);
        let (runs, drops) = (record.runs.load(Relaxed), record.drops.load(Relaxed));

        assert!(!left);
        assert_eq!(after, before);
        assert_eq!(runs, 3);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn pending_work_outlives_its_owner() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Drop)?;
        drop(arm::<TIMER, _, _>(token(&object)?, msecs_to_jiffies(20)));
        drop(object);
        let held = record.drops.load(Relaxed);
        record.done.wait_for_completion();
        let (drops, runs) = (record.drops.load(Relaxed), record.runs.load(Relaxed));
        let after = refcount();

        assert_eq!(held, 0);
        assert_eq!(runs, 1);
        assert_eq!(drops, 1);
        assert_eq!(after, before);
        Ok(())
    }

    #[test]
    fn plain_work_gives_its_token_back() -> Result {
        let (queue, record) = (queue()?, Record::new()?);
        let object = Object::new(&queue, &record, Script::Wait)?;
        let first = queue
            .enqueue::<PLAIN, _, _>(Token::of(object.clone()))
            .is_ok();
        record.started.wait_for_completion();
        // It runs, so it can be queued once more; a third one finds it pending.
        let second = queue
            .enqueue::<PLAIN, _, _>(Token::of(object.clone()))
            .is_ok();
        let third = queue
            .enqueue::<PLAIN, _, _>(Token::of(object.clone()))
            .is_err();
        record.gate.complete_all();
        drop(cancel_sync::<PLAIN, _, _>(&*object));
        drop(object);
        let drops = record.drops.load(Relaxed);

        assert!(first);
        assert!(second);
        assert!(third);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn ten_thousand_races_end_where_they_began() -> Result {
        const ROUNDS: u32 = 10_000;
        let (queue, record) = (queue()?, Record::new()?);
        let before = refcount();
        let object = Object::new(&queue, &record, Script::Drop)?;
        let target = object.clone();
        let racer = Arc::pin_init(
            pin_init!(Racer {
                target,
                rounds: ROUNDS,
                done <- Completion::new(),
                work <- new_work!("rmpath_test_racer"),
            }),
            GFP_KERNEL,
        )?;
        let queued = queue
            .enqueue::<PLAIN, _, _>(Token::of(racer.clone()))
            .is_ok();
        for round in 0..ROUNDS {
            race(&object, round);
        }
        racer.done.wait_for_completion();
        drop(cancel_sync::<PLAIN, _, _>(&*racer));
        drop(disarm_sync::<TIMER, _, _>(&*object));
        drop(racer);
        // Without this a token that `run` has just dropped might still be on its way.
        fsleep(Delta::from_millis(1));
        let after = refcount();
        drop(object);
        let drops = record.drops.load(Relaxed);

        assert!(queued);
        assert_eq!(after, before);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn no_number_of_seconds_wraps() {
        let second = secs_to_jiffies(1);
        assert!(second > 0);
        assert_eq!(secs_to_jiffies(0), 0);
        let most = second.wrapping_mul(u32::MAX as Jiffies);
        assert_eq!(secs_to_jiffies(u32::MAX), most);
    }
}
