//! Keeping the sidecar: opening it, what sessions ask of it, and applying batches to it.

use super::catch_up::catch_up;
use super::partition::Forgettable;
use super::passes::transaction_of_now;
use super::process::Settler;
use super::sidecar::Sidecar;
use super::transact;
use crate::drain::failure::{Failure, Remedy};
use crate::pg::hot::filter::Marks;
use crate::pg::sidecar::Index;
use crate::pg::worker::state::one_line;
use std::path::Path;

impl Settler {
    /// Opens the sidecar when there is something for it, and does with it what sessions have asked for.
    pub(super) fn see_to_sidecar(&mut self, store: u32) {
        let is_needed =
            self.partitions.iter().any(|of| of.known.is_some_and(|known| known.may_be_settled()));
        if self.sidecar.is_none() && is_needed && Index::IS_SUPPORTED {
            self.sidecar = Some(Sidecar::open(store));
        }
        let (rebuild, checkpoint) = (self.control.rebuild(), self.control.checkpoint());
        let Some(sidecar) = &mut self.sidecar else {
            for ticket in [rebuild, checkpoint] {
                if let Some(number) = ticket.pending() {
                    ticket.answer(number, Some("there is no hot partition"));
                }
            }
            return;
        };
        if let Some(number) = rebuild.pending() {
            let is_there = sidecar.rebuild();
            self.partitions.iter_mut().for_each(|of| of.is_compared = false);
            rebuild.answer(number, (!is_there).then(|| sidecar.error()).as_deref());
        }
        if let Some(number) = checkpoint.pending() {
            let path = self.control.checkpoint_path().get().unwrap_or_default();
            let copied = sidecar.index.checkpoint(Path::new(&path));
            checkpoint.answer(number, copied.err().map(|error| error.to_string()).as_deref());
        }
        if sidecar.keep_open() {
            self.partitions.iter_mut().for_each(|of| of.is_compared = false);
        }
    }

    /// Applies new batches to the sidecar, as long as somebody needs it: otherwise most batches are settled
    /// before anybody asks for what is in them. Returns whether there are more.
    pub(super) fn apply(&mut self) -> Result<bool, Failure> {
        if !self.control.is_sidecar_needed() {
            return Ok(false);
        }
        let Some(sidecar) = &mut self.sidecar else { return Ok(false) };
        let mut is_busy = false;
        for of in &mut self.partitions {
            let Some(known) = of.known.filter(|known| known.may_be_settled()) else {
                continue;
            };
            let Some(applied) = sidecar.index.applied(of.partition) else { return Ok(false) };
            let marks = self.store.and_then(|store| Marks::claim(of.partition, store));
            let last = marks.filter(Marks::are_kept).map_or(i64::MAX, |marks| marks.last_batch());
            if of.is_compared && applied.batch_no >= last {
                continue;
            }
            let (index, is_compared) = (&mut sidecar.index, of.is_compared);
            let applied = transact(|| catch_up(index, of.partition, applied, is_compared));
            let applied = match applied {
                Ok(Some(applied)) => applied,
                Ok(None) => return Ok(false),
                Err(failure) if failure.remedy() == Remedy::TryLater => return Err(failure),
                Err(failure) => {
                    // Tails are read from the table then.
                    of.is_compared = false;
                    self.control.of(of.partition).error.set(&one_line(&failure));
                    continue;
                }
            };
            if !of.is_compared {
                of.is_compared = true;
                let transaction = transaction_of_now()?;
                let (settled, forgotten) =
                    (applied.first - 1, known.settled_batch.min(applied.first - 1));
                of.forgettable.push_back(Forgettable { transaction, settled, forgotten });
            }
            sidecar.index.show(of.partition);
            sidecar.has_applied |= applied.batches > 0;
            is_busy |= applied.is_more;
        }
        Ok(is_busy)
    }
}
