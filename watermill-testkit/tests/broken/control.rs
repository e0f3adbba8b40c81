use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use watermill_core::{
    Window,
    delivery::Origin,
    error::SubscribeError,
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

use super::Fault;

/// Stands beside the stream of a subscription, and says something else than is so.
pub(super) struct CrossedControl {
    pub(super) fault: Fault,
    pub(super) inner: Option<Arc<dyn SubscriptionControl>>,
    /// The origin that the subscription's deliveries have instead of their own.
    pub(super) origin: Arc<OnceLock<Origin>>,
}

impl CrossedControl {
    fn inner(&self) -> &dyn SubscriptionControl {
        self.inner.as_deref().expect("it is there until it is dropped")
    }

    fn lose(&self) {
        if let Some(origin) = self.origin.get()
            && self.fault != Fault::ForgetsToCancel
        {
            origin.revoke_all();
        }
    }
}

#[async_trait]
impl SubscriptionControl for CrossedControl {
    fn set_window(&self, window: Window) {
        match self.fault {
            Fault::IgnoresTheWindow => {}
            Fault::IgnoresTheTotal => {
                self.inner().set_window(window.with_total(NonZeroUsize::new(1_000).unwrap()));
            }
            _ => self.inner().set_window(window),
        }
    }

    fn stop_intake(&self) {
        self.inner().stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let closed = self.inner().close().await;
        self.lose();
        closed
    }

    fn status(&self) -> SubscriptionStatus {
        let mut status = self.inner().status();
        match self.fault {
            Fault::ForgetsWhatIsOutstanding => status.outstanding = 0,
            Fault::StaysHealthy => status.health = Health::Healthy,
            _ => {}
        }
        status
    }
}

impl Drop for CrossedControl {
    fn drop(&mut self) {
        self.inner = None;
        self.lose();
    }
}
