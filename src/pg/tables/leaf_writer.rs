//! Writing rows into a leaf, with all its index entries.
//!
//! A leaf that has the store's own indexes and nothing else, which is the rule, is written to
//! directly. Where users have added indexes, triggers or constraints, PostgreSQL's executor does
//! what it would do for SQL (`guarded_leaf`).
#![expect(unsafe_code, reason = "drives PostgreSQL's table and index access")]

use super::guarded_leaf::GuardedLeaf;
use super::heap::{Update, Wait, insert_rows, is_heap_only, update_row};
use super::open_relation::OpenRelation;
use super::relation::{For, Leaf};
use super::schema::{INDEXES, LeafIndex, Root};
use super::writing::Writing;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use pgrx::pg_sys;

/// A leaf, open to be written to.
pub struct LeafWriter<'t> {
    // Before the leaf, which it refers to. A leaf that is not guarded has one to create streams.
    guarded: Option<GuardedLeaf<'t>>,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    indexes: [Option<OpenRelation>; INDEXES],
    leaf: Leaf,
    root: Root,
    writing: &'t Writing,
}

impl<'t> LeafWriter<'t> {
    /// Opens a leaf.
    pub fn open(root: Root, partition: Partition, writing: &'t Writing) -> Result<Self, Error> {
        Ok(Self::of(Leaf::open(root, partition, For::Writing)?, root, writing))
    }

    /// Takes over a leaf that is open for writing.
    pub fn of(leaf: Leaf, root: Root, writing: &'t Writing) -> Self {
        let guarded = (!leaf.known().is_plain).then(|| GuardedLeaf::open(&leaf, writing));
        Self { guarded, slots: Vec::new(), indexes: [const { None }; INDEXES], leaf, root, writing }
    }

    /// Whether triggers or constraints of users may be in play: then the newest version of a row is
    /// to be locked before it is updated.
    pub fn is_guarded(&self) -> bool {
        !self.leaf.known().is_plain
    }

    /// Fills the `index`-th row to be inserted. What the values point to must stay until `insert`.
    pub fn fill<const N: usize>(&mut self, index: usize, row: [Option<pg_sys::Datum>; N]) {
        // SAFETY: a virtual slot of the leaf has as many columns as `check_leaf` has found.
        unsafe {
            while self.slots.len() <= index {
                self.slots.push(pg_sys::MakeSingleTupleTableSlot(
                    self.leaf.descriptor(),
                    &pg_sys::TTSOpsVirtual,
                ));
            }
            let slot = self.slots[index];
            pg_sys::ExecClearTuple(slot);
            for (column, value) in row.into_iter().enumerate() {
                *(*slot).tts_isnull.add(column) = value.is_none();
                *(*slot).tts_values.add(column) = value.unwrap_or(pg_sys::Datum::from(0));
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            (*slot).tts_tableOid = (*self.leaf.relation()).rd_id;
        }
    }

    /// Inserts the first `len` filled rows.
    pub fn insert(&mut self, len: usize) -> Result<(), Error> {
        let slots = &mut self.slots[..len];
        if let Some(guarded) = self.guarded.as_mut().filter(|_| !self.leaf.known().is_plain) {
            return guarded.insert(slots);
        }
        // SAFETY: relation and slots are open, and hold rows of the leaf's columns.
        unsafe {
            let relation = self.leaf.relation();
            insert_rows(relation, slots);
            for slot in slots {
                let (values, nulls) = ((**slot).tts_values, (**slot).tts_isnull);
                let mut place = (**slot).tts_tid;
                insert_entries(
                    &mut self.indexes,
                    &self.leaf,
                    self.root,
                    (values, nulls),
                    &mut place,
                );
                pg_sys::ExecClearTuple(*slot);
            }
        }
        Ok(())
    }

    /// Inserts the first filled row unless a unique index has its key already; waits for those who
    /// are just inserting it. Returns whether the row was inserted.
    pub fn insert_unless_there(&mut self) -> Result<bool, Error> {
        let Self { guarded, leaf, writing, .. } = self;
        let guarded = guarded.get_or_insert_with(|| GuardedLeaf::open(leaf, writing));
        guarded.insert_unless_there(self.slots[0])
    }

    /// Replaces the row at `place`, whose columns are `row`. Where another transaction has changed it,
    /// waits for that one's end, unless `wait` says otherwise, and then does nothing if it has
    /// committed. A guarded leaf's row must have been locked before.
    ///
    /// # Safety
    ///
    /// There must be a row at `place`, and the values be of the columns' types.
    pub unsafe fn update<const N: usize>(
        &mut self,
        place: pg_sys::ItemPointerData,
        row: [Option<pg_sys::Datum>; N],
        wait: Wait,
    ) -> Result<Update, Error> {
        // SAFETY: by the caller's promise; values outlive the call.
        unsafe {
            if self.is_guarded() {
                self.fill(0, row);
            }
            if let Some(guarded) = self.guarded.as_mut().filter(|_| !self.leaf.known().is_plain) {
                return guarded.update(place, self.slots[0]);
            }
            let mut values = row.map(|value| value.unwrap_or(pg_sys::Datum::from(0)));
            let mut nulls = row.map(|value| value.is_none());
            let relation = self.leaf.relation();
            pg_sys::CheckCmdReplicaIdentity(relation, pg_sys::CmdType::CMD_UPDATE);
            let tuple = pg_sys::heap_form_tuple(
                self.leaf.descriptor(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let command = pg_sys::GetCurrentCommandId(true);
            let update = update_row(relation, place, tuple, command, wait);
            if matches!(update, Update::Done) && !is_heap_only(tuple) {
                let row = (values.as_mut_ptr(), nulls.as_mut_ptr());
                let place = &mut (*tuple).t_self;
                insert_entries(&mut self.indexes, &self.leaf, self.root, row, place);
            }
            pg_sys::heap_freetuple(tuple);
            Ok(update)
        }
    }
}

impl Drop for LeafWriter<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for slot in &self.slots {
            // SAFETY: made by `fill`, and not used after.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(*slot) };
        }
    }
}

/// Makes a row's entries in the store's own indexes, which are all that the leaf has.
unsafe fn insert_entries(
    open: &mut [Option<OpenRelation>; INDEXES],
    leaf: &Leaf,
    root: Root,
    (values, nulls): (*mut pg_sys::Datum, *mut bool),
    place: &mut pg_sys::ItemPointerData,
) {
    for (which, (_, key)) in [LeafIndex::ByStream, LeafIndex::ByNumber].iter().zip(root.indexes()) {
        let index = open[*which as usize].get_or_insert_with(|| leaf.open_index(*which));
        let mut key_values = [pg_sys::Datum::from(0); INDEXES];
        let mut key_nulls = [false; INDEXES];
        // SAFETY: the row has the columns of the key; a B-tree does without the executor's
        // information about the index.
        unsafe {
            for (slot, column) in key.iter().enumerate() {
                key_values[slot] = *values.add(*column);
                key_nulls[slot] = *nulls.add(*column);
            }
            pg_sys::index_insert(
                index.get(),
                key_values.as_mut_ptr(),
                key_nulls.as_mut_ptr(),
                place,
                leaf.relation(),
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES,
                false,
                std::ptr::null_mut(),
            );
        }
    }
}
