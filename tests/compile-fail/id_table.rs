// SPDX-License-Identifier: GPL-2.0

//! What can be found under an ID is complete, and is found with a reference.

use super::thing::*;
use crate::abstractions::xarray::{
    IdTable,
    Published,
    Reservation,
    Retired, //
};
use core::mem::MaybeUninit;

fn half_built_is_not_published(id: Reservation<Thing>, thing: Arc<MaybeUninit<Thing>>) {
    drop(id.publish(thing)); //~ E0308: expected `Arc<Thing>`, found `Arc<MaybeUninit<Thing>>`
}

fn what_is_to_be_built_is_not_published(id: Reservation<Thing>, queue: Queue) {
    drop(id.publish(Thing::init(queue))); //~ E0308: expected `Arc<Thing>`
    //+ drop((id, queue));
}

fn a_reservation_has_no_object(id: &Reservation<Thing>) {
    let found: Arc<Thing> = id.get(); //~ E0599: no method named `get`
    //+ let found = id.id();
    drop(found);
}

fn a_lookup_may_find_nothing(table: &IdTable<Thing>, id: &Reservation<Thing>) {
    let found: Arc<Thing> = table.get(id.id()); //~ E0308: expected `Arc<Thing>`, found `Option<Arc<Thing>>`
    //+ let found: Option<Arc<Thing>> = table.get(id.id());
    drop(found);
}

/// The pointer would be used after the lock was dropped.
fn a_lookup_lends_nothing(table: &IdTable<Thing>) {
    let found: Option<&Thing> = table.get(0); //~ E0308: expected `Option<&Thing>`, found `Option<Arc<Thing>>`
    //+ let found: Option<Arc<Thing>> = table.get(0);
    drop(found);
}

fn an_id_is_published_once(id: Reservation<Thing>, thing: Arc<Thing>) {
    let first = id.publish(thing.clone());
    let second = id.publish(thing); //~ E0382: use of moved value: `id`
    //+ let second = thing;
    drop((first, second));
}

fn a_retired_id_is_not_published_again(id: Retired<Thing>, thing: Arc<Thing>) {
    drop(id.publish(thing)); //~ E0599: no method named `publish`
    //+ drop((id, thing));
}

fn an_object_is_retired_once(id: Published<Thing>) {
    let first = id.retire();
    let second = id.retire(); //~ E0382: use of moved value: `id`
    //+ let second = ();
    drop((first, second));
}

fn a_reservation_is_kept(table: &Arc<IdTable<Thing>>) -> Result {
    table.reserve(1, GFP_KERNEL)?; //~ unused_must_use: unused `abstractions::xarray::Reservation` that must be used
    Ok(())
}

fn the_tables_reference_is_not_ignored(id: Published<Thing>) {
    id.retire(); //~ unused_must_use: unused
    //+ drop(id.retire());
}
