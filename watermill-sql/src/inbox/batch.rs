//! [`BatchInTransaction`]: one transaction for a batch.

use std::{collections::HashSet, error::Error, fmt, marker::PhantomData, sync::Arc};

use futures::future::BoxFuture;
use watermill_core::{
    DeliveryInfo, Message, Outputs,
    error::{BoxError, Nack},
    router::{BatchFn, ExtractOwned, FromRef, IntoOutcomes, Promise, State},
};

use super::{
    InboxError, Mark, OnDuplicate, Tx,
    shared::Shared,
    step::{Ended, Step},
    tx::Lent,
};
use crate::SqlDatabase;

/// A batch function with its transaction: made by [`SqlInbox::batch`](crate::SqlInbox::batch), for
/// [`Handler::batch`](watermill_core::Handler::batch).
pub struct BatchInTransaction<D: SqlDatabase, F> {
    shared: Arc<Shared<D>>,
    function: F,
}

/// Marks functions of a transaction and messages. It is inferred.
#[derive(Debug)]
pub struct WithMessages<Via, T>(PhantomData<(Via, T)>);

/// Marks functions that take the state, too. It is inferred.
#[derive(Debug)]
pub struct WithState<Via, T, P>(PhantomData<(Via, T, P)>);

type Outcome = Result<Outputs, BoxError>;

/// A function of a transaction and what was read of messages.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a batch function with a transaction",
    note = "it is `async fn(Tx<D>, Vec<T>)` or `async fn(Tx<D>, Vec<T>, State<S>)`, where `T` is what a handler may have as its last argument"
)]
pub trait BatchInTransactionFn<D: SqlDatabase, Args, S>: Clone + Send + Sync + 'static {
    /// What is read of a message.
    type Item: Send;
    /// What it returns.
    type Outcomes: IntoOutcomes;

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    fn read(message: Message, state: &S) -> Result<Self::Item, BoxError>;

    /// Calls it.
    fn run(&self, tx: Tx<D>, items: Vec<Self::Item>, state: &S) -> BoxFuture<'static, Self::Outcomes>;
}

impl<D, F, Fut, Via, T, S> BatchInTransactionFn<D, WithMessages<Via, T>, S> for F
where
    D: SqlDatabase,
    F: Fn(Tx<D>, Vec<T>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output: IntoOutcomes> + Send + 'static,
    T: ExtractOwned<S, Via> + Send,
{
    type Item = T;
    type Outcomes = Fut::Output;

    fn read(message: Message, state: &S) -> Result<T, BoxError> {
        T::extract_owned(message, state).map_err(Into::into)
    }

    fn run(&self, tx: Tx<D>, items: Vec<T>, _state: &S) -> BoxFuture<'static, Fut::Output> {
        Box::pin(self(tx, items))
    }
}

impl<D, F, Fut, Via, T, P, S> BatchInTransactionFn<D, WithState<Via, T, P>, S> for F
where
    D: SqlDatabase,
    F: Fn(Tx<D>, Vec<T>, State<P>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output: IntoOutcomes> + Send + 'static,
    T: ExtractOwned<S, Via> + Send,
    P: FromRef<S>,
{
    type Item = T;
    type Outcomes = Fut::Output;

    fn read(message: Message, state: &S) -> Result<T, BoxError> {
        T::extract_owned(message, state).map_err(Into::into)
    }

    fn run(&self, tx: Tx<D>, items: Vec<T>, state: &S) -> BoxFuture<'static, Fut::Output> {
        Box::pin(self(tx, items, State(P::from_ref(state))))
    }
}

impl<D: SqlDatabase, F> BatchInTransaction<D, F> {
    pub(super) fn new(shared: Arc<Shared<D>>, function: F) -> Self {
        Self { shared, function }
    }
}

impl<D, F, Args, S> BatchFn<BatchInTransaction<D, Args>, S> for BatchInTransaction<D, F>
where
    D: SqlDatabase,
    F: BatchInTransactionFn<D, Args, S>,
    Args: 'static,
    S: Clone + Send + Sync + 'static,
{
    type Kind = <F::Outcomes as IntoOutcomes>::Kind;

    fn call(&self, messages: Vec<Message>, state: &S) -> BoxFuture<'static, Vec<Outcome>> {
        let batch = Batch {
            outcomes: messages.iter().map(|_| None).collect(),
            members: messages.into_iter().enumerate().collect(),
        };
        Box::pin(handle(self.shared.clone(), self.function.clone(), batch, state.clone()))
    }

    fn promise(&self) {
        Promise::publishes();
    }
}

/// A batch on its way.
struct Batch {
    /// What is to be handled, each with its place.
    members: Vec<(usize, Message)>,
    /// `None` for what is still among the members.
    outcomes: Vec<Option<Outcome>>,
}

async fn handle<D, F, Args, S>(
    shared: Arc<Shared<D>>,
    function: F,
    mut batch: Batch,
    state: S,
) -> Vec<Outcome>
where
    D: SqlDatabase,
    F: BatchInTransactionFn<D, Args, S>,
    S: Sync,
{
    let mut step = Step::new(shared.clone());
    // Each time round the batch is smaller, or a run is counted by the step.
    while !batch.members.is_empty() {
        let again = run(&shared, &function, &mut step, &mut batch, &state).await;
        match again {
            Ok(Ended::Again) => {}
            Ok(Ended::Committed) => batch.end(|| Ok(Outputs::none())),
            Err(error) => {
                let error = Together::new(error);
                batch.end(|| Err(error.boxed()));
            }
        }
    }
    batch.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Ok(Outputs::none()))).collect()
}

async fn run<D, F, Args, S>(
    shared: &Shared<D>,
    function: &F,
    step: &mut Step<D>,
    batch: &mut Batch,
    state: &S,
) -> Result<Ended, BoxError>
where
    D: SqlDatabase,
    F: BatchInTransactionFn<D, Args, S>,
{
    let (marks, marked) = batch.marks(shared)?;
    if batch.members.is_empty() {
        return Ok(Ended::Committed);
    }
    let deliveries: Vec<DeliveryInfo> =
        batch.members.iter().filter_map(|(_, message)| message.delivery().cloned()).collect();
    let Some((open, is_new)) = step.begin(&marks, &deliveries).await? else {
        return Ok(Ended::Committed);
    };
    let skips = shared.config.on_duplicate == OnDuplicate::Skip;
    let duplicates: HashSet<usize> = marked
        .iter()
        .zip(&is_new)
        .filter(|(_, is_new)| skips && !**is_new)
        .map(|(place, _)| *place)
        .collect();
    let (mut items, mut places, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (place, message) in batch.members.iter().filter(|(place, _)| !duplicates.contains(place)) {
        match F::read(message.clone(), state) {
            Ok(item) => {
                items.push(item);
                places.push(*place);
            }
            Err(error) => failed.push((*place, error)),
        }
    }
    let topic = batch.members[0].1.handler().and_then(|handler| handler.publish_topic.clone());
    let mut outputs = Outputs::none();
    let lent = Lent::new(open);
    if failed.is_empty() && !items.is_empty() {
        let returned = function.run(lent.lend()?, items, state).await.into_outcomes(places.len());
        for (place, outcome) in places.into_iter().zip(returned) {
            match outcome {
                Ok(of_one) => outputs.append(of_one),
                Err(error) => failed.push((place, error)),
            }
        }
    }
    if failed.is_empty() {
        return step.end(lent.take_back(), Ok(outputs), topic.as_deref(), &deliveries).await;
    }
    let error = failed.swap_remove(0);
    let ended = step.end(lent.take_back(), Err(error.1), None, &deliveries).await;
    if let Err(error_of_one) = ended {
        failed.push((error.0, error_of_one));
        batch.fail(failed);
        // The others once more, without them.
        step.run_anew();
    }
    Ok(Ended::Again)
}

impl Batch {
    /// The marks of the members that have one, with their places. What comes twice in a batch, comes a second time.
    fn marks<D: SqlDatabase>(&self, shared: &Shared<D>) -> Result<(Vec<Mark>, Vec<usize>), BoxError> {
        let mut marked = (Vec::new(), Vec::new());
        for (place, message) in &self.members {
            if let Some(mark) = Mark::of(message, &shared.config).map_err(InboxError::boxed)? {
                marked.0.push(mark);
                marked.1.push(*place);
            }
        }
        Ok(marked)
    }

    fn fail(&mut self, failed: Vec<(usize, BoxError)>) {
        for (place, error) in failed {
            self.members.retain(|(member, _)| *member != place);
            self.outcomes[place] = Some(Err(error));
        }
    }

    /// All that are left have one end.
    fn end(&mut self, outcome: impl Fn() -> Outcome) {
        for (place, _) in self.members.drain(..) {
            self.outcomes[place] = Some(outcome());
        }
    }
}

/// The error of a whole batch, as each of its members has it.
#[derive(Clone, Debug)]
struct Together {
    error: Arc<BoxError>,
    is_nack: bool,
}

impl Together {
    fn new(error: BoxError) -> Self {
        Self { is_nack: Nack::is(&*error), error: Arc::new(error) }
    }

    fn boxed(&self) -> BoxError {
        match self.is_nack {
            true => Nack::new(self.clone()).into(),
            false => self.clone().into(),
        }
    }
}

impl fmt::Display for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handle the batch in one transaction")
    }
}

impl Error for Together {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.error)
    }
}

impl<D: SqlDatabase, F: Clone> Clone for BatchInTransaction<D, F> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), function: self.function.clone() }
    }
}

impl<D: SqlDatabase, F> fmt::Debug for BatchInTransaction<D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BatchInTransaction").field(&self.shared).finish_non_exhaustive()
    }
}
