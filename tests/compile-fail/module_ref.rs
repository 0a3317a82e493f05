// SPDX-License-Identifier: GPL-2.0

//! A reference on the module may not be had, is not made up, and is put once.

use super::thing::*;

fn may_not_be_had() {
    let module: ModuleRef = ModuleRef::try_get(); //~ E0308: expected `ModuleRef`, found `Option<ModuleRef>`
    //+ let module: Option<ModuleRef> = ModuleRef::try_get();
    drop(module);
}

fn is_not_made_up() {
    drop(ModuleRef(())); //~ E0423: cannot initialize a tuple struct which contains private fields
}

fn is_not_put_without_a_get() {
    drop(ModuleRef::from_leaked()); //~ E0624: private
}

fn is_not_forgotten_in_a_pointer(module: ModuleRef) {
    module.leak(); //~ E0624: method `leak` is private
}

fn is_put_once(module: ModuleRef) {
    drop(module);
    drop(module); //~ E0382: use of moved value: `module`
}

fn is_not_ignored(module: &ModuleRef) {
    module.clone(); //~ unused_must_use: unused `abstractions::module::ModuleRef` that must be used
}
