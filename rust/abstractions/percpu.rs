//! stub
use kernel::prelude::*;
pub(crate) struct PerCpuCursor(kernel::sync::atomic::Atomic<u32>);
impl PerCpuCursor { pub(crate) fn new() -> Result<Self> { Ok(Self(kernel::sync::atomic::Atomic::new(0))) }
 pub(crate) fn next(&self, n: u32) -> u32 { if n == 0 { 0 } else { self.0.fetch_add(1, kernel::sync::atomic::Relaxed) % n } } }
