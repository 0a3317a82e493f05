// SPDX-License-Identifier: GPL-2.0

//! A disk is shown when what it needs is complete, once, and is not used before.

use super::thing::*;
use crate::abstractions::{
    bio::{
        clone::{
            Clone,
            CloneOps, //
        },
        flags::Flags,
        status::BlkStatus,
        Bio, //
    },
    block_device::Bdev,
    gendisk::{
        NewDisk,
        Operations, //
    },
};
use kernel::fmt;

/// Its openers would have nothing.
fn is_not_added_without_its_data<T: Operations>(disk: NewDisk) {
    drop(disk.add::<T>(fmt!("rmpath0"), 8)); //~ E0061: this method takes 3 arguments but 2 arguments were supplied
}

fn is_not_added_with_data_on_loan<T: Operations>(disk: NewDisk, data: &T) {
    drop(disk.add(fmt!("rmpath0"), 8, data)); //~ E0308: expected `Arc<_>`, found `&T`
}

fn is_added_once<T: Operations>(disk: NewDisk, data: Arc<T>) {
    drop(disk.add(fmt!("rmpath0"), 8, data.clone()));
    drop(disk.add(fmt!("rmpath1"), 8, data)); //~ E0382: use of moved value: `disk`
}

/// A holder is linked, and a folder made, under a disk that is there.
fn is_not_used_before_it_is_added(disk: &NewDisk) {
    drop(disk.reference()); //~ E0599: no method named `reference`
}

fn does_not_end_a_bio_twice(bio: Bio) {
    bio.end(BlkStatus::OK);
    bio.end(BlkStatus::OK); //~ E0382: use of moved value: `bio`
}

fn does_not_send_a_clone_twice<P: CloneOps>(clone: Clone<P>, path: P::Target) {
    clone.submit(path, Flags::default());
    clone.finish(BlkStatus::OK); //~ E0382: use of moved value: `clone`
}

fn does_not_end_what_is_sent<P: CloneOps>(bio: Bio, private: P, path: P::Target) {
    Clone::send(bio, || private, path, Flags::default());
    bio.end(BlkStatus::OK); //~ E0382: use of moved value: `bio`
}

fn does_not_send_past_the_set<P: CloneOps>(bio: Bio, private: P, bdev: &'static Bdev) {
    Clone::send(bio, || private, bdev, Flags::default()); //~ E0271: expected `&Bdev`, found associated type
}
