//! `es_append` while two sessions hand batches over to the workers without pause, from arrays that
//! lie ready in a table, so that the load costs this client next to nothing. They write to streams
//! of their own: a stream that a worker is writing to has to be waited for, as always.

use std::rc::Rc;

use crate::append::Append;
use crate::error::Result;
use crate::prepared::Prepared;
use crate::workload::{About, Client, LocalFuture, Workload};

/// The report's name of this workload.
pub const APPEND_UNDER_LOAD: &str = "es_append under load";

/// Sessions that fill the queue.
const LOAD_SESSIONS: usize = 2;

/// The workload.
pub struct UnderLoad {
    append: Append,
    load: Rc<Prepared>,
}

impl UnderLoad {
    /// `append` while `load` fills the queue.
    pub const fn new(append: Append, load: Rc<Prepared>) -> Self {
        Self { append, load }
    }
}

impl Workload for UnderLoad {
    fn about(&self) -> About {
        // Nothing is said of bytes: nearly all of them are those of the load.
        About::reads(APPEND_UNDER_LOAD, self.append.about().database)
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            self.append.prepare().await?;
            self.load.prepare().await
        })
    }

    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>> {
        self.append.client(index, clients)
    }

    fn load(&self) -> LocalFuture<'_, Vec<Box<dyn Client>>> {
        Box::pin(async {
            let mut sessions = Vec::with_capacity(LOAD_SESSIONS);
            for index in 0..LOAD_SESSIONS {
                sessions.push(self.load.client(index, LOAD_SESSIONS).await?);
            }
            Result::Ok(sessions)
        })
    }
}
