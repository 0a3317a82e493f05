// SPDX-License-Identifier: GPL-2.0

//! What a multipath device adds to the flags of a bio (`bi_opf`) that it passes on.

use crate::bindings;

/// What is added. Its functions may be called in any context.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags(bindings::blk_opf_t);

impl Flags {
    /// There is another way: the device shall not retry for long (`REQ_FAILFAST_TRANSPORT`).
    pub(crate) const FAILFAST: Self = Self(bindings::RMPATH_REQ_FAILFAST_TRANSPORT);

    /// What of these is added to a bio with the flags `opf`: all, but nothing if it is read ahead.
    ///
    /// The block layer does not retry that anyway (`bio_failfast()`), and warns if a bio with only a
    /// part of those flags starts a request to which others are added (`blk_rq_set_mixed_merge()`).
    #[inline]
    pub(in crate::abstractions) fn fit_for(self, opf: bindings::blk_opf_t) -> Self {
        match opf & bindings::RMPATH_REQ_RAHEAD {
            0 => self,
            _ => Self::default(),
        }
    }

    /// As `bi_opf` has them.
    #[inline]
    pub(in crate::abstractions) fn bits(self) -> bindings::blk_opf_t {
        self.0
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_bio_flags)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_stays_as_it_is() {
        let read = bindings::RMPATH_REQ_OP_READ | bindings::RMPATH_REQ_NOWAIT;
        let ahead = read | bindings::RMPATH_REQ_RAHEAD;
        let failfast = bindings::RMPATH_REQ_FAILFAST_TRANSPORT;
        assert_eq!(Flags::FAILFAST.fit_for(read).bits(), failfast);
        assert_eq!(Flags::FAILFAST.fit_for(ahead).bits(), 0);
        assert_eq!(Flags::default().fit_for(read).bits(), 0);
        assert_eq!(Flags::default().fit_for(ahead).bits(), 0);
    }
}
