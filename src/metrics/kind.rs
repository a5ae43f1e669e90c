//! What can be counted. Each kind is the index of an array of the registry and the value of a
//! label.

/// Makes an enum whose variants are array indexes from 0 on and have a label.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of their indexes.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// The array index.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

kinds! {
    /// What happens to events. Each is counted in total and as a rate.
    Counter {
        /// Written to their streams, by callers and by workers.
        EventsAppended = "appended",
        /// Handed over to the queue.
        EventsEnqueued = "enqueued",
        /// Written by a worker.
        EventsDrained = "drained",
        /// Refused: by a call that failed, or put among the dead letters.
        EventsRejected = "rejected",
        /// Returned to a reader.
        EventsRead = "read",
    }
}

kinds! {
    /// The SQL functions whose calls are counted, without the prefix `es_`.
    Function {
        /// `es_append`
        Append = "append",
        /// `es_append_many`
        AppendMany = "append_many",
        /// `es_append_batch`
        AppendBatch = "append_batch",
        /// `es_enqueue`
        Enqueue = "enqueue",
        /// `es_enqueue_batch`
        EnqueueBatch = "enqueue_batch",
        /// `es_flush`
        Flush = "flush",
        /// `es_read`
        Read = "read",
        /// `es_read_all`
        ReadAll = "read_all",
    }
}

kinds! {
    /// Why a call failed.
    ErrorKind {
        /// The stream does not have the expected version.
        Conflict = "conflict",
        /// An event of this id is there already.
        DuplicateEventId = "duplicate_event_id",
        /// An argument is malformed or out of its range.
        BadArgument = "bad_argument",
        /// The event or the batch is too large.
        TooLarge = "too_large",
        /// The queue was still full after the wait.
        QueueFull = "queue_full",
        /// The server has no memory for what the call asks for.
        OutOfMemory = "out_of_memory",
        /// The time allowed ran out, or the call was cancelled.
        Timeout = "timeout",
        /// Not loaded at server start, no worker, or a standby.
        NotAvailable = "not_available",
        /// The caller lacks a right.
        Permission = "permission",
        /// Stored bytes are damaged.
        Corrupt = "corrupt",
        /// A defect of the extension.
        Internal = "internal",
        /// Anything else.
        Other = "other",
    }
}

kinds! {
    /// What is timed.
    Latency {
        /// One call that appends.
        Append = "append",
        /// One call that enqueues, with its wait for room and for durability.
        Enqueue = "enqueue",
        /// One batch of a worker, from taking it until it is durable.
        DrainBatch = "drain_batch",
        /// One call that reads.
        Read = "read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_those_of_all() {
        assert!(Counter::ALL.iter().enumerate().all(|(index, kind)| kind.index() == index));
        assert!(Function::ALL.iter().enumerate().all(|(index, kind)| kind.index() == index));
        assert!(ErrorKind::ALL.iter().enumerate().all(|(index, kind)| kind.index() == index));
        assert!(Latency::ALL.iter().enumerate().all(|(index, kind)| kind.index() == index));
        assert_eq!((Counter::COUNT, Function::COUNT), (5, 8));
        assert_eq!((ErrorKind::COUNT, Latency::COUNT), (12, 4));
    }
}
