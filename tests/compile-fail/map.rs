// SPDX-License-Identifier: GPL-2.0

//! Who is asked about a clone of device-mapper's has to answer for that one, once.

use crate::abstractions::{
    bio::status::BlkStatus,
    device_mapper::{
        DeviceId,
        FailedBio,
        KeptBio,
        MapBio,
        Mapped,
        Target, //
    },
};

fn a_clone_is_not_left_alone<'a, T: Target>(bio: MapBio<'a, T>) -> Mapped<'a> { //~ E0308: mismatched types
    //+ fn a_clone_is_not_left_alone<'a, T: Target>(bio: MapBio<'a, T>) -> Mapped<'a> { bio.kill()
}

fn a_clone_has_one_answer<'a, T: Target>(bio: MapBio<'a, T>, device: DeviceId) -> Mapped<'a> {
    let kept = bio.keep();
    drop(kept.0);
    drop(bio.remap(device)); //~ E0382: use of moved value: `bio`
    kept.1
}

fn the_answer_is_for_this_clone<'a, 'b, T: Target>(one: MapBio<'a, T>, other: MapBio<'b, T>) -> (Mapped<'a>, Mapped<'b>) {
    (other.kill(), one.kill()) //~ lifetime: lifetime may not live long enough
    //+ (one.kill(), other.kill())
}

fn a_kept_clone_is_sent_once<T: Target>(bio: KeptBio<T>, device: DeviceId) {
    bio.submit(device);
    bio.end(BlkStatus::OK); //~ E0382: use of moved value: `bio`
}

fn an_answer_is_not_ignored<T: Target>(bio: FailedBio<'_, T>) {
    bio.done(BlkStatus::OK); //~ unused_must_use: unused `Ended` that must be used
}
