//! A connection on loan.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::thread;

use super::clock;
use super::core::Lease;
use super::failure::AcquireError;
use super::forensics::{Holder, HolderReport};
use super::manage::Manage;
use super::observe::Reason;
use super::upkeep::{self, Kind, open_in, reap_one};

/// A connection on loan. Dropping it gives it back, at once and without a runtime.
///
/// It is discarded instead, and its slot freed, if the manager does not want it back, its lifetime is over, or the thread
/// is unwinding from a panic that began while it was held.
pub struct Pooled<M: Manage> {
    lease: Lease<Kind<M>>,
    /// 1 if the thread was unwinding when this was acquired, for then a panic says nothing about its use; else 0. A whole
    /// word, because a guard with padding in it is moved by loads that straddle the stores before them: 10 ns of 60.
    panicking: usize,
}

impl<M: Manage> Pooled<M> {
    pub(super) fn new(lease: Lease<Kind<M>>) -> Self {
        Self { lease, panicking: usize::from(thread::panicking()) }
    }

    /// The task that calls this is on record as who holds it from now on.
    pub(crate) fn moves_here(&self, site: &'static Location<'static>) {
        self.lease.set_holder(Holder::at(site));
    }

    /// A writer's lane is on record as who holds it from now on.
    pub(crate) fn is_the_lanes(&self) {
        self.lease.set_holder(Holder::lane());
    }

    /// Who holds connections of its pool at this moment, itself included.
    pub(crate) fn holders(&self) -> Vec<HolderReport> {
        upkeep::holders(self.lease.core())
    }

    /// Drops the connection now, and keeps the slot. Until it is [renewed](Pooled::renew), the guard must not be used.
    pub(crate) fn discard(&mut self) {
        if let Some(mut entry) = self.lease.connection().take() {
            entry.ends(Reason::Unusable);
        }
    }

    /// Whether it was not discarded.
    pub(crate) fn is_open(&self) -> bool {
        self.lease.get().is_some()
    }

    /// Opens another connection in the slot of one that was discarded.
    ///
    /// # Errors
    /// [`AcquireError::Closed`] if the pool was closed, otherwise as for opening any connection.
    pub(crate) async fn renew(&mut self) -> Result<(), AcquireError<M::Error>> {
        if self.lease.connection().is_none() {
            open_in(&mut self.lease, true).await?;
        }
        Ok(())
    }

    /// Takes the connection out of the pool for good. Its slot is free at once.
    #[must_use]
    pub fn detach(mut self) -> M::Connection {
        let entry = self.lease.connection().take();
        let mut entry = entry.expect("a guard's slot holds its connection until the guard is dropped");
        entry.ends(Reason::Detached);
        entry.connection
    }
}

impl<M: Manage> fmt::Debug for Pooled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}

impl<M: Manage> Deref for Pooled<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.lease.get().expect("a guard's slot holds its connection until the guard is dropped").connection
    }
}

impl<M: Manage> DerefMut for Pooled<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        let entry = self.lease.connection().as_mut();
        &mut entry.expect("a guard's slot holds its connection until the guard is dropped").connection
    }
}

impl<M: Manage> Drop for Pooled<M> {
    fn drop(&mut self) {
        // Taken out first: should the judgement panic, the connection is dropped and only the slot goes back.
        let Some(mut entry) = self.lease.connection().take() else { return };
        if thread::panicking() && self.panicking == 0 {
            return entry.ends(Reason::Panicked);
        }
        let context = self.lease.core().context();
        let Some(entry) = context.take_back(entry) else { return };
        if context.keeps_limits() {
            reap_one(self.lease.core(), clock::now());
        }
        *self.lease.connection() = Some(entry);
    }
}
