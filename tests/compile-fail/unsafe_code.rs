// SPDX-License-Identifier: GPL-2.0

//! Outside of `abstractions/` nothing is unsafe.

use super::thing::*;

fn no_block(thing: *const Thing) -> u32 {
    return unsafe { (*thing).value }; //~ unsafe_code: usage of an `unsafe` block
    //+ return thing.addr() as u32;
}

struct Pointer(*const Thing);

unsafe impl Send for Pointer {} //~ unsafe_code: implementation of an `unsafe` trait

unsafe fn no_function(thing: *const Thing) {} //~ unsafe_code: declaration of an `unsafe` function

fn no_pointer_is_followed(thing: *const Thing) -> u32 {
    return (*thing).value; //~ E0133: dereference of raw pointer is unsafe and requires unsafe
    //+ return thing.addr() as u32;
}

fn no_call_of_c(work: *mut crate::bindings::work_struct) {
    crate::bindings::cancel_work(work); //~ E0133: call to unsafe function
    //+ drop(work);
}

/// Nor does a thread get what is not for it.
fn no_pointer_goes_to_another_thread<T: Send>(thing: T) {
    drop(thing);
}
fn to_another_thread(pointer: *const Thing) {
    no_pointer_goes_to_another_thread(Pointer(pointer)); //~ E0277: `*const thing::Thing` cannot be sent between threads safely
    //+ no_pointer_goes_to_another_thread(Pointer(pointer).0.addr());
}
