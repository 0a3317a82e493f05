// SPDX-License-Identifier: GPL-2.0

//! To schedule takes a token, with all that the item's token holds. It cannot be made up.

use super::thing::*;

fn without_a_token() {
    drop(arm::<TIMER, Thing, ModuleRef>(10)); //~ E0061: this function takes 2 arguments but 1 argument was supplied
}

fn with_the_object_alone(queue: &Queue, thing: Arc<Thing>) {
    drop(queue.enqueue::<PLAIN, Thing, ()>(thing)); //~ E0308: expected `Token<Thing>`, found `Arc<Thing>`
}

fn without_the_module(thing: Arc<Thing>) {
    drop(arm::<TIMER, _, _>(Token::of(thing), 10)); //~ E0271: type mismatch resolving
}

struct Elsewhere;

/// The timer would lead to a queue that has gone.
impl RunsOn<TIMER> for Elsewhere {
    fn queue(&self) -> &Queue {
        &Queue::new(c"short", QueueKind::Unbound).unwrap() //~ E0515: cannot return reference to temporary value
        //+ loop {}
    }
}

fn with_a_borrow(thing: &Thing, module: ModuleRef) {
    drop(Token::new(thing, module)); //~ E0308: expected `Arc<_>`, found `&Thing`
}

/// The pending item would outlive what it lies in.
fn in_a_box(thing: Pin<KBox<Thing>>) {
    drop(Token::of(thing)); //~ E0308: expected `Arc<_>`, found `Pin<Box<Thing, Kmalloc>>`
}

fn with_one_that_is_made_up(thing: Arc<Thing>) {
    drop(Token { object: thing, holds: () }); //~ E0451: private
}

fn with_one_that_is_rebuilt(thing: &Thing) {
    drop(Token::<Thing>::from_raw(thing)); //~ E0624: private
}

/// Right.
fn as_it_should_be(queue: &Queue, thing: &Arc<Thing>, module: ModuleRef) {
    drop(arm::<TIMER, _, _>(Token::new(thing.clone(), module), 10));
    drop(queue.enqueue::<PLAIN, _, _>(Token::of(thing.clone())));
}
