//! [`Elsewhere`]: a client that is destroyed on a thread of its own.

use std::{ops::Deref, thread};

/// Destroying a client of librdkafka's waits for its threads, and whatever holds one in a future may be dropped at any point
/// where that waits: by a caller that gives up, a `select!`, a `try_join!` whose other half fails, or an error on the way.
#[derive(Debug)]
pub(crate) struct Elsewhere<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Elsewhere<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Elsewhere<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Without a thread it is dropped here after all.
        let _ = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(client));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    struct Client(Option<oneshot::Sender<thread::ThreadId>>);

    impl Drop for Client {
        fn drop(&mut self) {
            let _ = self.0.take().expect("it is dropped once").send(thread::current().id());
        }
    }

    #[tokio::test]
    async fn a_client_is_not_destroyed_by_whoever_drops_the_future_that_has_it() {
        let (told, on) = oneshot::channel();
        let client = Elsewhere::new(Client(Some(told)));
        let asking = async move {
            std::future::pending::<()>().await;
            drop(client);
            Ok(())
        };
        let failing = async { Err::<(), _>("the other half fails") };
        let joined = async { tokio::try_join!(asking, failing) };
        assert!(joined.await.is_err());
        assert_ne!(on.await.expect("it is dropped"), thread::current().id());
    }
}
