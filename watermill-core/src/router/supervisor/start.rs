//! How handlers are started: checked, put together, and given a task each, in which they subscribe side by side.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::{
    Addition, Decorators, NamedPlugin, Supervisor,
    subscribing::Subscribing,
    task::{Answer, Policies, Task, cannot_start},
};
use crate::{
    Publisher, Subscriber,
    error::chain,
    router::{
        Counts, Ended, HandlerInfo, HandlerReport, RunError, RunErrorKind, StartPolicy,
        prepared::{Prepared, Spec, check, claimed_twice, duplicate},
        sink::Sink,
        status::{Entry, Stage},
        worker::Environment,
    },
};

impl Supervisor {
    /// Starts the plugins, then the handlers.
    pub(super) async fn start(
        &mut self,
        handlers: Vec<Prepared>,
        problems: Vec<String>,
    ) -> Result<(), RunError> {
        check(&handlers, problems)?;
        for NamedPlugin { name, plugin } in &self.plugins {
            let refused = |source| RunError::new(RunErrorKind::Plugin, *name).with_source(source);
            plugin.on_start(&self.control).await.map_err(refused)?;
            self.plugins_started += 1;
        }
        self.start_handlers(handlers).await
    }

    /// Starts handlers side by side. The first that cannot subscribe, in the order in which they were added, is
    /// the one that the error names.
    async fn start_handlers(&mut self, handlers: Vec<Prepared>) -> Result<(), RunError> {
        let mut starting = Vec::with_capacity(handlers.len());
        for handler in handlers {
            let (answer, answered) = oneshot::channel();
            let retry_of = handler.spec.retry_of.clone();
            let (chain, task) = (handler.spec.chain(), self.put_together(handler)?);
            starting.push((task.subscribing.env.info.clone(), retry_of, answered));
            self.launch(task, chain, answer);
        }
        for (info, retry_of, answered) in starting {
            let answer = answered.await.unwrap_or_else(|_| Err(RunError::not_running()));
            match (answer, self.config.start) {
                (Ok(_), _) => {}
                // Asked to stop before it had begun: there is nothing to drain.
                (Err(error), _) if error.kind() == RunErrorKind::NotRunning => {}
                (Err(error), StartPolicy::FailFast) => return Err(error),
                (Err(error), StartPolicy::Retry(_)) => {
                    self.refused(&info, &error);
                    if let Some(handler) = retry_of {
                        self.leave_out(&handler, &info);
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts a handler while others run.
    pub(super) fn add(&mut self, Addition { prepared, answer }: Addition) {
        let chain = prepared.spec.chain();
        match check([&prepared], Vec::new()).and_then(|()| self.put_together(prepared)) {
            Ok(task) => self.launch(task, chain, answer),
            Err(error) => {
                // Nobody may be waiting any more.
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Decorates what the handler takes from and publishes to.
    fn put_together(&self, Prepared { spec, runner }: Prepared) -> Result<Task, RunError> {
        if self.control.shared.handlers().contains_key(&spec.name) {
            return Err(RunError::new(RunErrorKind::Build, duplicate(&spec.name)));
        }
        for (other, entry) in self.control.shared.handlers().iter() {
            if let Some(claim) = spec.claims.iter().find(|claim| entry.info.claims.contains(claim)) {
                let problem = claimed_twice(claim, other, &spec.name);
                return Err(RunError::new(RunErrorKind::Build, problem));
            }
        }
        let subscriber = match &spec.group {
            Some(group) => {
                spec.subscriber.in_group(group).map_err(|error| cannot_start(&spec.name, error))?
            }
            None => spec.subscriber.clone(),
        };
        let subscriber = self.decorators.subscriber(subscriber);
        let publisher = spec.sink.publisher.clone().map(|publisher| self.decorators.publisher(publisher));
        let env = self.environment(spec, publisher, &*subscriber);
        let (control, turns) = (self.control.clone(), self.turns.clone());
        Ok(Task {
            runner,
            subscribing: Subscribing { subscriber, env, control, turns },
            policies: Policies {
                start: self.config.start,
                restart: self.config.restart,
                close_within: self.config.drain_deadline,
            },
        })
    }

    fn environment(
        &self,
        spec: Spec,
        publisher: Option<Arc<dyn Publisher>>,
        subscriber: &dyn Subscriber,
    ) -> Environment {
        let backend = |publisher: &Arc<dyn Publisher>| publisher.capabilities().backend.to_owned();
        let info = HandlerInfo {
            name: spec.name,
            subscribe_topic: spec.topic,
            group: spec.group,
            subscriber: subscriber.capabilities().backend.to_owned(),
            publisher: publisher.as_ref().map(backend),
            publish_topic: spec.sink.topic.clone(),
            claims: spec.claims,
            spans: self.decorators.spans.clone(),
        };
        let timer = self.decorators.timers.as_ref().map(|timers| timers.of(&info));
        Environment::new(
            Arc::new(info),
            Sink { publisher, topic: spec.sink.topic },
            spec.policy,
            spec.concurrency,
            spec.pipeline,
            &subscriber.capabilities(),
            self.control.shared.stop.of_part(),
        )
        .timed(timer)
    }

    /// Gives the handler its entry and its task.
    fn launch(&mut self, task: Task, chain: String, answer: Answer) {
        let entry = Entry {
            info: task.subscribing.env.info.clone(),
            chain,
            counters: task.subscribing.env.counters.clone(),
            trouble: task.subscribing.env.trouble.clone(),
            stop: task.subscribing.env.stop.clone(),
            stage: Stage::Subscribing { error: None },
            restarts: 0,
            ended: watch::Sender::new(None),
        };
        self.control.shared.handlers().insert(entry.info.name.clone(), entry);
        self.tasks.spawn(task.run(answer));
    }

    /// Stops a handler before it takes a message: what it would put on a retry topic that is refused would not come again.
    fn leave_out(&self, handler: &str, retry: &HandlerInfo) {
        tracing::error!(
            handler,
            retry_topic = retry.subscribe_topic,
            "the handler is not started, since its retry topic cannot be read"
        );
        if let Some(entry) = self.control.shared.handlers().get(handler) {
            entry.stop.ask();
        }
    }

    /// The others run without this one.
    fn refused(&mut self, info: &HandlerInfo, error: &RunError) {
        let error = chain(error);
        for NamedPlugin { plugin, .. } in &self.plugins {
            plugin.on_handler_failed(info, &error);
        }
        self.control.shared.report().push(HandlerReport {
            info: info.clone(),
            counts: Counts::default(),
            dead_letter_reasons: Default::default(),
            restarts: 0,
            ended: Ended::Failed { error },
        });
    }
}

impl Decorators {
    fn subscriber(&self, subscriber: Arc<dyn Subscriber>) -> Arc<dyn Subscriber> {
        self.subscriber.iter().fold(subscriber, |inner, decorate| decorate(inner))
    }

    /// In both directions a message passes the decorators in the order in which they were added.
    fn publisher(&self, publisher: Arc<dyn Publisher>) -> Arc<dyn Publisher> {
        self.publisher.iter().rev().fold(publisher, |inner, decorate| decorate(inner))
    }
}
