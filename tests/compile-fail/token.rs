// SPDX-License-Identifier: GPL-2.0

//! A token is used once, and one that comes back is not ignored.

use super::thing::*;

fn is_not_cloned(token: &Token<Thing, ModuleRef>) {
    let copy: Token<Thing, ModuleRef> = token.clone(); //~ E0308: expected `Token<Thing, ModuleRef>`, found `&Token<Thing, ModuleRef>`
    //+ let copy = token.object().clone();
    drop(copy);
}

fn arms_once(token: Token<Thing, ModuleRef>) {
    let spare = arm::<TIMER, _, _>(token, 10);
    drop(arm::<TIMER, _, _>(token, 20)); //~ E0382: use of moved value: `token`
    drop(spare);
}

/// Put here, and again by `run`.
fn is_not_put_when_it_was_given_away(token: Token<Thing, ModuleRef>) {
    drop(arm::<TIMER, _, _>(token, 10));
    drop(token); //~ E0382: use of moved value: `token`
}

fn from_arm_is_not_ignored(token: Token<Thing, ModuleRef>) {
    arm::<TIMER, _, _>(token, 10); //~ unused_must_use: unused return value
}

/// Whoever cancels puts what the item held.
fn from_disarm_is_not_ignored(thing: &Thing) {
    disarm::<TIMER, _, _>(thing); //~ unused_must_use: unused return value
}

fn from_enqueue_is_not_ignored(queue: &Queue, token: Token<Thing>) {
    queue.enqueue::<PLAIN, _, _>(token); //~ unused_must_use: unused
}

fn from_cancel_is_not_ignored(thing: &Thing) {
    cancel_sync::<PLAIN, _, _>(thing); //~ unused_must_use: unused return value
}

/// The timer would not be seen.
fn of_a_timer_is_not_cancelled_as_plain_work(thing: &Thing) {
    drop(cancel_sync::<TIMER, _, _>(thing)); //~ E0277: the trait bound `thing::Thing: HasPlainWork<0>` is not satisfied
}

fn of_plain_work_is_not_armed(token: Token<Thing>) {
    drop(arm::<PLAIN, _, _>(token, 10)); //~ E0277: the trait bound `thing::Thing: HasDelayedWork<thing::Thing, 1>` is not satisfied
}
