// SPDX-License-Identifier: GPL-2.0

//! A path is kept past the read section by a reference of its own, and the set it was in for a grace period.

use super::thing::*;
use crate::abstractions::{
    percpu_ref::{
        Live,
        LiveRef, //
    },
    rcu::{
        synchronize,
        Elapsed,
        RcuCell,
        Retired, //
    },
};

type Set = KVec<Arc<Live<Thing>>>;

fn the_set_is_not_kept(set: &RcuCell<Set>) {
    let kept = set.read(|set| set); //~ lifetime: lifetime may not live long enough
    //+ let kept = set.read(|set| set.len());
    drop(kept);
}

fn a_borrowed_path_is_not_kept(set: &RcuCell<Set>) {
    let kept = set.read(|set| set.first()); //~ lifetime: lifetime may not live long enough
    //+ let kept = set.read(|set| set.first().and_then(|path| path.try_get()));
    drop(kept);
}

fn nor_is_it_carried_out(set: &RcuCell<Set>) {
    let mut kept: Option<&Thing> = None;
    set.read(|set| kept = set.first().map(|path| &***path)); //~ E0521: borrowed data escapes outside of closure
    drop(kept);
}

fn a_shut_path_gives_no_reference(path: &Live<Thing>) {
    let kept: LiveRef<Thing> = path.try_get(); //~ E0308: expected `LiveRef<Thing>`, found `Option<LiveRef<Thing>>`
    //+ let kept: Option<LiveRef<Thing>> = path.try_get();
    drop(kept);
}

fn a_reference_is_not_made_up(path: &Live<Thing>) {
    drop(LiveRef(path.into())); //~ E0423: cannot initialize a tuple struct which contains private fields
    //+ drop(path.try_get());
}

fn a_reference_is_not_copied(path: &LiveRef<Thing>) {
    let copy: LiveRef<Thing> = path.clone(); //~ E0308: expected `LiveRef<Thing>`, found `&LiveRef<Thing>`
    //+ let copy = path.value;
    drop(copy);
}

fn the_old_set_is_not_read(old: Retired<Set>) {
    let set = old.0; //~ E0616: field `0` of struct `abstractions::rcu::Retired` is private
    //+ let set = old.elapse();
    drop(set);
}

/// Under a lock it would sleep unseen.
fn the_old_set_is_not_ignored(set: &RcuCell<Set>, new: KBox<Set>) {
    set.replace(new); //~ unused_must_use: unused `abstractions::rcu::Retired` that must be used
}

/// What waits for everybody to see a new set asks for this.
fn a_grace_period_is_not_made_up(kick: fn(Elapsed)) {
    kick(Elapsed(())); //~ E0423: cannot initialize a tuple struct which contains private fields
    //+ kick(synchronize());
}

fn nor_used_twice(set: &RcuCell<Set>, new: KBox<Set>, kick: fn(Elapsed)) {
    let elapsed = set.replace(new).elapse();
    kick(elapsed);
    kick(elapsed); //~ E0382: use of moved value: `elapsed`
    //+ kick(synchronize());
}
