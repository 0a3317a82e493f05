//! stub
use crate::bindings;
pub(crate) struct BlockClass(*const bindings::class);
impl BlockClass { pub(super) unsafe fn from_device(dev: *mut bindings::device) -> Self { Self(unsafe { (*dev).class }) } }
