// SPDX-License-Identifier: GPL-2.0

//! Nodes of memory: where this CPU is, and how far it is from there to others.
//!
//! C header: [`include/linux/topology.h`](srctree/include/linux/topology.h)
//!
//! # Examples
//!
//! ```ignore
//! let far = bdev.node().is_some_and(|node| distance(here(), node) > LOCAL_DISTANCE);
//! ```

use crate::bindings;

/// The distance of a node to itself.
pub(crate) const LOCAL_DISTANCE: u32 = bindings::RMPATH_LOCAL_DISTANCE;

/// The number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node(u32);

impl Node {
    /// As C has it: negative numbers are no node (`NUMA_NO_NODE`).
    pub(super) fn from_raw(node: i32) -> Option<Self> {
        u32::try_from(node).ok().map(Self)
    }

    /// One that need not be there, for tests.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const fn of(number: u32) -> Self {
        Self(number)
    }

    /// The number, from 0.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The node of the CPU that this runs on; the thread may be elsewhere by the time it is looked at.
/// Any context.
#[inline]
pub(crate) fn here() -> Node {
    // SAFETY: It has no requirements.
    let node = unsafe { bindings::rmpath_numa_node_id() };
    Node(node as u32)
}

/// How far it is from one to the other, in the firmware's measure: [`LOCAL_DISTANCE`] is a node's
/// own. Both have to come from the kernel. Any context.
pub(crate) fn distance(from: Node, to: Node) -> u32 {
    // SAFETY: Both are numbers of nodes that the kernel knows (it has a default for others).
    let distance = unsafe { bindings::rmpath_node_distance(from.0 as i32, to.0 as i32) };
    distance as u32
}

/// One more than the highest number that a node of this machine can have.
pub(crate) fn count() -> usize {
    // SAFETY: It has no requirements.
    (unsafe { bindings::rmpath_nr_node_ids() }) as usize
}

/// The nodes that are there now.
pub(crate) fn online() -> impl Iterator<Item = Node> {
    (0..count() as u32)
        // SAFETY: Every number below `nr_node_ids` may be asked for.
        .filter(|node| unsafe { bindings::rmpath_node_online(*node as i32) })
        .map(Node)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_numa)]
mod tests {
    use super::*;

    #[test]
    fn we_are_somewhere() {
        let here = here();
        assert!(here.index() < count());
        assert!(online().any(|node| node == here));
        assert_eq!(distance(here, here), LOCAL_DISTANCE);
        assert!(Node::from_raw(-1).is_none());
        assert!(Node::from_raw(0) == Some(Node::of(0)));
    }
}
