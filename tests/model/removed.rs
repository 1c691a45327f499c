//! The rules of the engine, one piece at a time, to be taken away.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    W(Write),
    T(Token),
    R(Retry),
    A(Acknowledge),
    M(Monotone),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// The update asks only that the item exists.
    Unconditional,
    /// The update does not ask that the item exists.
    Upsert,
    /// The whole image goes back, on the right condition.
    PutOfImage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Only head and foot are named.
    FootOnly,
    /// What was absent is not named.
    AbsentNotNamed,
    /// What the new signature covers and the old one did not is named only where the write touches it, or it was absent.
    NewlyCoveredNotNamed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// A failed condition without an item means that the item is gone.
    GoneUnread,
    /// After an unknown outcome, what is found is sealed without looking at what it is.
    SealsItsOutput,
    /// A failed condition means that somebody else did the work.
    FailedIsDone,
    /// An unknown outcome means that the write was applied.
    UnknownIsDone,
    /// An item that is gone is made anew from what was read.
    MakesAnew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledge {
    /// The checkpoint passes the item before its answer came.
    CheckpointFirst,
    /// The checkpoint passes the item before its ledger entry is durable.
    LedgerLast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Monotone {
    /// Nobody takes the table's lock.
    NoLock,
    /// A job whose lock was taken over while it was suspended writes without reading again.
    WritesUnread,
}
