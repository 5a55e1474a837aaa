//! Whether this process may go on under its worker id, known to all of its tasks (`core::twin` decides).

use std::sync::Arc;

use multilangd_core::ids::WorkerId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// The right to the worker id. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    lost: CancellationToken,
    suspicion: Arc<Notify>,
}

impl Identity {
    /// Something looks as if another process worked under this id: look at it now.
    pub(crate) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Somebody has a suspicion.
    pub(crate) async fn suspected(&self) {
        self.suspicion.notified().await;
    }

    /// The id is another process's: nothing more is written under it.
    pub(crate) fn lose(&self, me: &WorkerId) {
        error!(
            "workerId = {me}: another process works under this id; this one ends and leaves the leases to it: give each worker \
             an id of its own, or leave workerId out"
        );
        self.lost.cancel();
    }

    /// Whether it is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns when it is lost.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}
