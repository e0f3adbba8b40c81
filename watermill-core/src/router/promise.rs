//! What layers do for a handler and what its arguments need of them: said while its service is made, and compared
//! before it is started.

use std::{any::TypeId, cell::RefCell, fmt};

thread_local! {
    /// What has been said of the service that is being made on this thread; `None` while none is.
    static SAID: RefCell<Option<Said>> = const { RefCell::new(None) };
}

/// What a layer promises to the handler that it is put around. It says so in [`tower::Layer::layer`], while a router
/// makes the handler's service, which is when the router is built. At any other time it says so to nobody.
///
/// A handler whose destination is a topic without a publisher ([`Handler::to_topic`](crate::Handler::to_topic)), or with
/// an argument that [requires](super::Extract::required) something, is refused when no layer has promised that: a
/// layer that was forgotten is found at the start and not with the first message.
///
/// ```
/// use tower::Layer;
/// use watermill_core::router::Promise;
///
/// #[derive(Clone)]
/// struct PublishInside;
///
/// # struct Service<S>(S);
/// impl<S> Layer<S> for PublishInside {
///     type Service = Service<S>;
///
///     fn layer(&self, inner: S) -> Service<S> {
///         Promise::publishes();
///         Service(inner)
///     }
/// }
/// ```
#[derive(Debug)]
pub enum Promise {}

/// What an argument needs of a layer: see [`Extract::required`](super::Extract::required).
#[derive(Clone, Copy)]
pub struct Required {
    id: TypeId,
    argument: &'static str,
    remedy: &'static str,
}

/// What was said while a service was made.
#[derive(Debug, Default)]
pub(super) struct Said {
    publishes: bool,
    returns: bool,
    provided: Vec<TypeId>,
    required: Vec<Required>,
}

impl Promise {
    /// The layer publishes what the handler returns, and returns [`Outputs::none`](super::Outputs::none).
    pub fn publishes() {
        say(|said| said.publishes = true);
    }

    /// The layer returns messages of its own for the topic of the handler's destination, replies for instance: a handler without
    /// such a topic is refused.
    pub fn returns() {
        say(|said| said.returns = true);
    }

    /// The layer puts what a `T`, as an argument of the handler, takes on each message.
    pub fn provides<T: 'static>() {
        say(|said| said.provided.push(TypeId::of::<T>()));
    }
}

impl Required {
    /// For an argument `T`, which a layer [provides](Promise::provides). `remedy` says which, as in "put the layer
    /// `Tenants` around the handler".
    pub fn of<T: 'static>(remedy: &'static str) -> Self {
        Self { id: TypeId::of::<T>(), argument: std::any::type_name::<T>(), remedy }
    }
}

impl Said {
    /// What was asked for and promised by nobody.
    pub(super) fn problems(&self, needs_publisher: bool, has_topic: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if self.returns && !has_topic {
            problems.push(
                "one of its layers returns messages, and it has no topic that they go to: give it a destination with \
                 `Handler::to`"
                    .to_owned(),
            );
        }
        if needs_publisher && !self.publishes {
            problems.push(
                "it leaves publishing to a layer (`Handler::to_topic`), and none of its layers publishes: add the \
                 one that does, or name a publisher with `Handler::to`"
                    .to_owned(),
            );
        }
        for required in self.required.iter().filter(|required| !self.provided.contains(&required.id)) {
            problems
                .push(format!("no layer provides its argument {}: {}", required.argument, required.remedy));
        }
        problems
    }
}

/// Says what the arguments of a handler need.
pub(crate) fn require(required: impl IntoIterator<Item = Required>) {
    say(|said| said.required.extend(required));
}

/// Makes a service and hears what is said of it.
pub(super) fn listen<T>(make: impl FnOnce() -> T) -> (T, Said) {
    let _restored = Restored(SAID.replace(Some(Said::default())));
    let made = make();
    (made, SAID.take().unwrap_or_default())
}

fn say(what: impl FnOnce(&mut Said)) {
    SAID.with_borrow_mut(|said| said.as_mut().map(what));
}

/// Puts back who listened before, whatever happens.
struct Restored(Option<Said>);

impl Drop for Restored {
    fn drop(&mut self) {
        SAID.set(self.0.take());
    }
}

impl fmt::Debug for Required {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Required").field(&self.argument).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_promised_is_a_problem() {
        let ((), said) = listen(|| require([Required::of::<u8>("add the layer of numbers")]));
        assert_eq!(said.problems(true, true).len(), 2);
        assert!(said.problems(false, true)[0].contains("argument u8: add the layer of numbers"));
        let ((), said) = listen(|| {
            require([Required::of::<u8>("")]);
            Promise::publishes();
            Promise::provides::<u8>();
        });
        assert_eq!(said.problems(true, true), [""; 0]);
    }

    #[test]
    fn what_is_said_while_nobody_listens_is_said_to_nobody() {
        Promise::publishes();
        let (inner, outer) = listen(|| listen(Promise::publishes).1.problems(true, true));
        assert_eq!(inner, [""; 0]);
        assert_eq!(outer.problems(true, true).len(), 1);
    }
}
