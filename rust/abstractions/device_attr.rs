//! stub
use crate::bindings;
pub(crate) unsafe trait DeviceData { unsafe fn from_device(dev: *mut bindings::device) -> *const Self; }
pub(crate) struct AttributeGroups<T>(core::marker::PhantomData<T>);
impl<T> AttributeGroups<T> { pub(super) fn as_ptr(&self) -> *mut *const bindings::attribute_group { core::ptr::null_mut() } }
