//! Running a forwarder over the shards of its topic: one for each, which stands by while another process has it.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Backoff, Message, Subscriber,
    error::{ConfigError, SubscribeError, chain},
    router::Phase,
    subscriber::{Sharding, Shards},
};

use crate::{
    Envelope, ForwarderConfig, ForwarderControl, ForwarderError, ForwarderErrorKind, ForwarderReport,
    control::Run,
};

/// How often it is looked whether there are more shards.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Runs a forwarder of one shard.
pub(crate) trait RunShard: Sync {
    fn run_shard<'a>(
        &'a self,
        number: u32,
        subscriber: Arc<dyn Subscriber>,
        control: ForwarderControl,
        shutdown: CancellationToken,
    ) -> BoxFuture<'a, Result<ForwarderReport, ForwarderError>>;
}

/// The shards that a configuration asks for, if it does.
pub(crate) fn of(
    subscriber: &Arc<dyn Subscriber>,
    config: &ForwarderConfig,
) -> Result<Option<Arc<dyn Shards>>, ConfigError> {
    let Some(count) = config.shards else { return Ok(None) };
    let of_key = config.clone();
    let sharding = Sharding::new(count).key_of(move |outer| key(outer, &of_key));
    match subscriber.shards(&config.topic, sharding) {
        Some(shards) => Ok(Some(shards)),
        None => Err(ConfigError::new(
            "configure the forwarder",
            format!(
                "shards: {} has none; relays over partitions or a queue share their topic without",
                subscriber.capabilities().backend
            ),
        )),
    }
}

/// The key that a message is published with.
fn key(outer: &Message, config: &ForwarderConfig) -> Option<bytes::Bytes> {
    match (outer.key(), &config.key_from) {
        (Some(key), _) => Some(key.clone()),
        (None, None) => None,
        (None, Some(key_from)) => {
            let mut message = match config.destination_from {
                Some(_) => outer.clone(),
                None => Envelope::unwrap(outer).ok()?.into_parts().1,
            };
            key_from.apply(&mut message);
            message.key().cloned()
        }
    }
}

/// Runs one for each shard, also for those that come later, until `shutdown`. What ends one of them ends all, except a
/// successor: that has taken a shard, and another may come free.
pub(crate) async fn run(
    runner: &impl RunShard,
    shards: &dyn Shards,
    (config, control): (&ForwarderConfig, &ForwarderControl),
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ForwarderReport, ForwarderError> {
    let shared = &*control.shared;
    let _run = Run::start(shared);
    shared.forget();
    let mut shutdown = pin!(shared.asked_to_stop(shutdown));
    let stop = CancellationToken::new();
    let mut running = FuturesUnordered::new();
    let start = |number, delay| {
        let stop = stop.clone();
        async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => return (number, Ok(ForwarderReport::default())),
                () = sleep(delay) => {}
            }
            let control = shared.control_of_shard(number);
            (number, runner.run_shard(number, shards.shard(number), control, stop).await)
        }
    };
    let (mut started, mut failures, mut count_at) = (0, 0, Instant::now());
    let mut counting = pin!(futures::future::Fuse::terminated());
    let mut is_counting = false;
    let mut fenced = Vec::<u32>::new();
    let mut error = loop {
        if !is_counting && Instant::now() >= count_at {
            counting.set(futures::FutureExt::fuse(shards.count()));
            is_counting = true;
        }
        tokio::select! {
            biased;
            () = &mut shutdown => break None,
            counted = &mut counting => {
                is_counting = false;
                match counted {
                    Ok(count) => {
                        (failures, count_at) = (0, Instant::now() + COUNT_INTERVAL);
                        fenced.resize(count.max(started) as usize, 0);
                        running.extend((started..count).map(|number| start(number, Duration::ZERO)));
                        started = started.max(count);
                        shared.enter(Phase::Running);
                    }
                    Err(error) => {
                        let wait = uncounted(config, &error, started > 0, failures);
                        let Some(wait) = wait else { break Some(ForwarderError::subscribe(&config.topic, error)) };
                        shared.source_away(chain(&error));
                        failures = failures.saturating_add(1);
                        count_at = Instant::now() + wait;
                    }
                }
            }
            Some((number, ended)) = running.next() => match ended {
                Err(error) if error.kind() == ForwarderErrorKind::Fenced => {
                    // Whoever had the shard for a while and lost it is not one who never gets it.
                    let times = if error.report().forwarded > 0 { 0 } else { fenced[number as usize] };
                    let delay = Backoff::default().delay(times);
                    fenced[number as usize] = times.saturating_add(1);
                    tracing::warn!(topic = %config.topic, shard = number, ?delay, "another relay has taken over, standing by");
                    running.push(start(number, delay));
                }
                Err(error) => break Some(error),
                Ok(_) => break None,
            },
            () = sleep_until(count_at), if !is_counting => {}
        }
    };
    shared.enter(Phase::Draining);
    stop.cancel();
    // Nobody polls it any more: it would keep a connection that the relays need to end.
    counting.set(futures::future::Fuse::terminated());
    while let Some((_, ended)) = running.next().await {
        if let Err(another) = ended {
            error.get_or_insert(another);
        }
    }
    let report = shared.counts();
    match error {
        None => Ok(report),
        Some(error) => Err(error.with_report(report)),
    }
}

/// How long to wait before counting again, unless that is the end.
fn uncounted(
    config: &ForwarderConfig,
    error: &SubscribeError,
    is_running: bool,
    failures: u32,
) -> Option<Duration> {
    let topic = &*config.topic;
    let goes_on = is_running || config.await_source && error.is_retryable();
    let wait = config.backoff.delay(failures).max(COUNT_INTERVAL);
    if goes_on {
        tracing::error!(topic, failures, ?wait, error = %chain(error), "the number of shards is not known");
    }
    goes_on.then_some(wait)
}
