//! [`BoxedService`]: a service whose type is forgotten, without a boxed future a message.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use tower::Service;

use super::{MessageService, Outputs};
use crate::{Message, error::BoxError};

/// A service whose type is not known any more: what is put around a set of [`Handlers`](crate::router::Handlers)
/// wraps this.
///
/// Its futures take turns in one place in memory, which is made with the second call. A call that begins while the
/// one before it goes on, and the first, has a box of its own.
pub struct BoxedService(Box<dyn AnyService>);

/// What a [`BoxedService`] returns.
#[must_use = "futures do nothing unless they are polled"]
pub struct BoxedFuture(Call);

enum Call {
    InPlace(Arc<dyn AnyPlace>),
    Boxed(BoxFuture<'static, Result<Outputs, BoxError>>),
    Over,
}

trait AnyService: Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    fn call(&mut self, message: Message) -> Call;

    fn clone_boxed(&self) -> BoxedService;
}

/// A service with its type.
struct Known<S: MessageService> {
    service: S,
    place: Option<Arc<Place<S::Future>>>,
    was_called: bool,
}

/// Where the futures of calls that do not overlap are, one after another.
struct Place<F>(Mutex<Pin<Box<Option<F>>>>);

trait AnyPlace: Send + Sync {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Outputs, BoxError>>;

    fn clear(&self);
}

impl BoxedService {
    pub(crate) fn new<S: MessageService + Clone>(service: S) -> Self {
        Self(Box::new(Known { service, place: None, was_called: false }))
    }
}

impl Service<Message> for BoxedService {
    type Response = Outputs;
    type Error = BoxError;
    type Future = BoxedFuture;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, message: Message) -> BoxedFuture {
        BoxedFuture(self.0.call(message))
    }
}

impl Clone for BoxedService {
    fn clone(&self) -> Self {
        self.0.clone_boxed()
    }
}

impl<S: MessageService + Clone> AnyService for Known<S> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Call {
        let future = self.service.call(message);
        // Many layers clone the service for each message and drop it: for these a place is not worth its while.
        if !std::mem::replace(&mut self.was_called, true) {
            return Call::boxed(future);
        }
        let place = self.place.get_or_insert_with(|| Arc::new(Place(Mutex::new(Box::pin(None)))));
        match Arc::get_mut(place) {
            Some(Place(free)) => {
                free.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().set(Some(future));
                Call::InPlace(place.clone())
            }
            None => Call::boxed(future),
        }
    }

    fn clone_boxed(&self) -> BoxedService {
        BoxedService::new(self.service.clone())
    }
}

impl Call {
    fn boxed<F, E>(future: F) -> Self
    where
        F: Future<Output = Result<Outputs, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::Boxed(future.map_err(Into::into).boxed())
    }
}

impl<F, E> AnyPlace for Place<F>
where
    F: Future<Output = Result<Outputs, E>> + Send,
    E: Into<BoxError>,
{
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Outputs, BoxError>> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let future = place.as_mut().as_pin_mut().expect("it was set by the call");
        future.poll(cx).map_err(Into::into)
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().set(None);
    }
}

impl Future for BoxedFuture {
    type Output = Result<Outputs, BoxError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &mut self.0 {
            Call::InPlace(place) => place.poll(cx),
            Call::Boxed(future) => future.as_mut().poll(cx),
            Call::Over => panic!("a future was polled after it had completed"),
        };
        if polled.is_ready() {
            self.0 = Call::Over;
        }
        polled
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // What the place has is this call's: there is no other before this one is gone.
        if let Self::InPlace(place) = self {
            place.clear();
        }
    }
}

impl fmt::Debug for BoxedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedService").finish_non_exhaustive()
    }
}

impl fmt::Debug for BoxedFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::future::{join, poll_fn};
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// Returns its message with the second poll, and holds something until then.
    fn service() -> (BoxedService, Arc<()>) {
        let alive = Arc::new(());
        let counted = alive.clone();
        let service = service_fn(move |message: Message| {
            let alive = counted.clone();
            async move {
                let mut polled = false;
                poll_fn(|_| match std::mem::replace(&mut polled, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
                .await;
                drop(alive);
                let mut outputs = Outputs::none();
                outputs.push(message);
                Ok::<_, BoxError>(outputs)
            }
        });
        (BoxedService::new(service), alive)
    }

    async fn id(call: BoxedFuture) -> String {
        let mut call = call;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.poll_unpin(&mut cx).is_pending());
        call.await.unwrap().messages()[0].id().to_string()
    }

    fn numbered(number: u32) -> Message {
        Message::with_id(number.to_string(), "")
    }

    #[tokio::test]
    async fn calls_one_after_another_and_side_by_side_each_have_their_own_answer() {
        let (mut service, _) = service();
        for number in 0..3 {
            assert_eq!(id(service.ready().await.unwrap().call(numbered(number))).await, number.to_string());
        }
        let (one, two) = (service.call(numbered(1)), service.call(numbered(2)));
        assert_eq!(join(id(one), id(two)).await, ("1".to_owned(), "2".to_owned()));
        let mut other = service.clone();
        let (one, two) = (service.call(numbered(1)), other.call(numbered(2)));
        assert_eq!(join(id(one), id(two)).await, ("1".to_owned(), "2".to_owned()));
    }

    #[tokio::test]
    async fn what_a_call_holds_is_free_when_it_has_ended_or_is_dropped() {
        let (mut service, alive) = service();
        let idle = Arc::strong_count(&alive);
        for number in 0..3 {
            let call = service.call(numbered(number));
            assert_eq!(Arc::strong_count(&alive), idle + 1);
            id(call).await;
            assert_eq!(Arc::strong_count(&alive), idle);
            drop(service.call(numbered(number)));
            assert_eq!(Arc::strong_count(&alive), idle);
        }
    }
}
