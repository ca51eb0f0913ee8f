//! The rules that keep a session in one piece, by name, so that a simulation can show what each is for.
//!
//! Invariant: without the feature `broken-rules`, which only tests are built with, every rule holds, and asking
//! costs nothing.

/// A rule of the protocol. Each is asked for at the one place where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Collection never deletes a seal.
    SealsStay,
    /// Nothing is written by a successor before its seal has landed.
    SealFirst,
    /// The floor rises only by a conditional write of the lease.
    FloorByLease,
    /// The checkpoints are those that are there once the lease is taken.
    ListedUnderLease,
    /// Each writer has an epoch, and so a log, of its own.
    OwnEpoch,
    /// An epoch's nonce is new.
    FreshNonce,
    /// Callers are released in slot order, once all earlier slots have landed, too.
    SlotOrder,
    /// Only data objects of earlier epochs are taken as left over.
    EarlierBlobsOnly,
    /// A blob goes only when it was dead at the confirmed floor already.
    DeadAtFloor,
    /// The committed rows, and so checkpoints, hold committed slots only.
    CommittedWhenLanded,
    /// Local changes are replayed only over the journal's own commits.
    ReplayOverOwn,
    /// A slot is noted in the journal before its first PUT.
    NotedBeforeSent,
    /// The floor is a state that can be loaded without the newest image.
    FloorIsFallback,
    /// The log is applied strictly after the checkpoint's slot.
    StrictlyAfter,
    /// Each write of the lease has other bytes than the one before.
    RenewalsDiffer,
    /// A newcomer waits as long as the holder's lease says.
    HoldersTtl,
    /// The lease is given back by a conditional write.
    ReleaseByWrite,
    /// What lies at a slot is ours only if all its bytes are.
    WholeBytes,
    /// Time in which the machine was suspended counts.
    SuspendCounts,
    /// The lease was surely ours when a commit is acknowledged.
    EnsuredBeforeAck,
    /// A slot that is missing before committed ones is not the end of the log.
    GapIsDamage,
    /// What seems to be missing is missing only if a listing agrees.
    MissingIfListed,
    /// A row names a pack only once that is in the store.
    PackBeforeRows,
    /// A plain object with our tag is ours.
    TagIsOurs,
    /// A plain object is deleted only by who was surely the writer a moment ago.
    DeletedByTheWriter,
    /// And only once the log says that this is about to happen: it may happen later, too.
    NotedBeforeDelete,
    /// What seems to be deleted outside is looked at by itself.
    LookBeforeGone,
    /// A listing without our own lease tells nothing.
    ListingShowsLease,
    /// Plain objects are written on condition that they are as we know them.
    WrittenIfKnown,
    /// Content is copied out of a plain object before that changes.
    OwnedBeforeChange,
    /// Of an object without bytes, the headers count.
    EmptyByHeaders,
}

/// Whether the rule is kept.
#[cfg(not(feature = "broken-rules"))]
pub(crate) const fn holds(_: Rule) -> bool {
    true
}

#[cfg(feature = "broken-rules")]
pub(crate) use switch::{breaking, holds};

#[cfg(feature = "broken-rules")]
mod switch {
    use super::Rule;
    use std::cell::Cell;

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    pub(crate) fn holds(rule: Rule) -> bool {
        BROKEN.get() != Some(rule)
    }

    /// Runs `f` with a rule broken on this thread.
    pub(crate) fn breaking<T>(rule: Option<Rule>, f: impl FnOnce() -> T) -> T {
        let before = BROKEN.replace(rule);
        let result = f();
        BROKEN.set(before);
        result
    }
}
