// SPDX-License-Identifier: GPL-2.0

//! The table of IDs: nothing half-built, unreferenced or dying is found, and no ID is used twice.

use super::*;

#[kunit_tests(rmpath_xarray)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::{
        resched,
        Canary,
        FailingAllocations,
        Finder, //
    };
    use core::mem::size_of;
    use kernel::sync::atomic::Relaxed;

    const LIMIT: u32 = 1 << 20;

    type Table = Arc<IdTable<Canary>>;

    fn table() -> Result<Table> {
        IdTable::new(GFP_KERNEL)
    }

    fn reserve(table: &Table) -> Result<Reservation<Canary>> {
        table.reserve(LIMIT, GFP_KERNEL)
    }

    fn visible(table: &Table) -> usize {
        table.iter().count()
    }

    #[test]
    fn a_token_is_two_words() {
        assert_eq!(size_of::<Published<u8>>(), 2 * size_of::<usize>());
        assert_eq!(size_of::<Option<Published<u8>>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn a_reservation_is_invisible() -> Result {
        let table = table()?;
        let first = reserve(&table)?;
        let second = reserve(&table)?;
        let ids = (first.id(), second.id());
        let found = table.get(0).is_some() || table.get(1).is_some();
        let seen = visible(&table);
        drop(first);
        // The lowest one is free again, and only that.
        let third = reserve(&table)?;
        let reused = third.id();
        drop((second, third));

        assert_eq!(ids, (0, 1));
        assert!(!found);
        assert_eq!(seen, 0);
        assert_eq!(reused, 0);
        Ok(())
    }

    #[test]
    fn publish_makes_it_visible_complete() -> Result {
        let table = table()?;
        let drops = Canary::counter()?;
        let reservation = reserve(&table)?;
        let id = reservation.id();
        let canary = Arc::new(Canary::new(42, &drops), GFP_KERNEL)?;
        let published = reservation.publish(canary.clone());
        let found = table.get(id);
        let same = found
            .as_ref()
            .is_some_and(|found| Arc::ptr_eq(found, &canary));
        let value = found.as_ref().map(|found| found.value);
        let other = table.get(id + 1).is_some();
        drop((canary, found));
        // The table's own reference is left.
        let early = drops.load(Relaxed);
        drop(published);
        let late = drops.load(Relaxed);
        let gone = table.get(id).is_none();

        assert!(same);
        assert_eq!(value, Some(42));
        assert!(!other);
        assert_eq!((early, late), (0, 1));
        assert!(gone);
        Ok(())
    }

    #[test]
    fn a_retired_id_is_neither_found_nor_reused() -> Result {
        let table = table()?;
        let drops = Canary::counter()?;
        let published = reserve(&table)?.publish(Arc::new(Canary::new(1, &drops), GFP_KERNEL)?);
        let id = published.id();
        let (retired, reference) = published.retire();
        let found = table.get(id).is_some() || visible(&table) != 0;
        let early = drops.load(Relaxed);
        drop(reference);
        let late = drops.load(Relaxed);
        let other = reserve(&table)?;
        let other_id = other.id();
        drop(retired);
        let again = reserve(&table)?;
        let again_id = again.id();
        drop((other, again));

        assert!(!found);
        assert_eq!((early, late), (0, 1));
        assert!(other_id != id);
        assert_eq!(again_id, id);
        Ok(())
    }

    #[test]
    fn iteration_sees_published_objects_only() -> Result {
        let table = table()?;
        let drops = Canary::counter()?;
        let mut tokens = KVec::new();
        let mut reserved = KVec::new();
        // More than one node's worth.
        for value in 0..200 {
            let reservation = reserve(&table)?;
            if value % 3 == 0 {
                reserved.push(reservation, GFP_KERNEL)?;
            } else {
                let canary = Arc::new(Canary::new(value, &drops), GFP_KERNEL)?;
                tokens.push(reservation.publish(canary), GFP_KERNEL)?;
            }
        }
        let right = table
            .iter()
            .all(|(id, canary)| id == canary.value && id % 3 != 0);
        let seen = visible(&table);
        let after = table.next_from(100).map(|(id, _)| id);
        let published = tokens.len();
        drop((tokens, reserved));
        let left = visible(&table);
        let dropped = drops.load(Relaxed);

        assert!(right);
        assert_eq!(seen, published);
        assert_eq!(after, Some(100));
        assert_eq!(left, 0);
        assert_eq!(dropped as usize, published);
        Ok(())
    }

    #[test]
    fn an_exhausted_range_is_refused() -> Result {
        let table = table()?;
        let none = table.reserve(0, GFP_KERNEL).err();
        let first = table.reserve(1, GFP_KERNEL)?;
        let full = table.reserve(1, GFP_KERNEL).err();
        let second = table.reserve(2, GFP_KERNEL)?;
        let ids = (first.id(), second.id());
        drop((first, second));

        assert_eq!(none, Some(EBUSY));
        assert_eq!(full, Some(EBUSY));
        assert_eq!(ids, (0, 1));
        Ok(())
    }

    /// The object is dropped again and again while another thread looks it up: whoever finds it finds
    /// it alive. KASAN watches the memory.
    #[test]
    fn get_races_the_last_put() -> Result {
        const ROUNDS: u32 = 300;
        let table = table()?;
        let drops = Canary::counter()?;
        let theirs = table.clone();
        let finder = Finder::spawn(move || theirs.get(0))?;
        let mut wrong_id = 0;
        for round in 0..ROUNDS {
            let reservation = reserve(&table)?;
            wrong_id += u32::from(reservation.id() != 0);
            let canary = Arc::new(Canary::new(round, &drops), GFP_KERNEL)?;
            let seen = finder.found();
            let published = reservation.publish(canary);
            // Now and then it is found for certain, however the threads are scheduled.
            while round % 10 == 0 && finder.found() == seen {
                resched();
            }
            if round % 2 == 0 {
                let (retired, reference) = published.retire();
                drop(reference);
                drop(retired);
            } else {
                drop(published);
            }
            resched();
        }
        let (found, dead) = finder.stop();

        assert_eq!(dead, 0);
        assert!(found >= ROUNDS / 10);
        assert_eq!(wrong_id, 0);
        assert_eq!(drops.load(Relaxed), ROUNDS);
        Ok(())
    }

    #[test]
    fn allocation_failure_leaves_no_slot() -> Result {
        let table = table()?;
        let Some(failing) = FailingAllocations::begin() else {
            return Ok(());
        };
        let atomic = table.reserve(LIMIT, GFP_NOWAIT).err();
        drop(failing);
        let seen = visible(&table);
        let first = reserve(&table)?;
        let id = first.id();
        drop(first);

        assert_eq!(atomic, Some(ENOMEM));
        assert_eq!(seen, 0);
        assert_eq!(id, 0);
        Ok(())
    }

    /// Also when the xarray has moved the entry out of its node, as it does with a single one at 0.
    #[test]
    fn publish_and_retire_need_no_memory() -> Result {
        let table = table()?;
        let drops = Canary::counter()?;
        let first = Arc::new(Canary::new(1, &drops), GFP_KERNEL)?;
        let second = Arc::new(Canary::new(2, &drops), GFP_KERNEL)?;
        let reservation = reserve(&table)?;
        let other = reserve(&table)?.publish(first);
        let Some(failing) = FailingAllocations::begin() else {
            return Ok(());
        };
        let published = reservation.publish(second);
        drop(other);
        let (retired, reference) = published.retire();
        let hidden = table.get(retired.id()).is_none();
        let full = table.reserve(1, GFP_NOWAIT).err();
        drop(failing);
        let value = reference.value;
        drop((reference, retired));

        assert!(hidden);
        assert_eq!(full, Some(EBUSY));
        assert_eq!(value, 2);
        assert_eq!(drops.load(Relaxed), 2);
        Ok(())
    }
}
