//! [`Process`]: a connection on a runtime of its own, which can be stopped in the middle.

use std::{
    future::Future,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot, watch};

use super::obligation::within;
use crate::{Backend, Connection, patience};

/// What a process that hangs is to its server: while it is stopped none of its tasks goes on, its
/// connections stay open, and nobody says goodbye.
pub(super) struct Process {
    work: mpsc::Sender<BoxFuture<'static, ()>>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    resume: Arc<(Mutex<bool>, Condvar)>,
}

impl Process {
    /// Connects in a new process; `None` where a consumer that has died is not noticed.
    pub(super) async fn start(backend: &Arc<dyn Backend>) -> Option<(Self, Connection, Duration)> {
        let process = Self::spawn();
        let backend = backend.clone();
        let connected = process.run(async move { backend.connect_with_timeout().await }).await;
        connected.map(|(connection, timeout)| (process, connection, timeout))
    }

    /// Runs something in the process.
    pub(super) async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (done, output) = oneshot::channel();
        let work = async move {
            let _ = done.send(future.await);
        };
        let sent = self.work.send(work.boxed()).await;
        sent.unwrap_or_else(|_| panic!("the runtime of the process has ended"));
        let output = within("S1: what runs in another process ends", output).await;
        output.unwrap_or_else(|_| panic!("what ran in another process has panicked, see above"))
    }

    /// Stops it in the middle of whatever it does.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        let stopped = self.stopped.wait_for(|stopped| *stopped).await;
        stopped.unwrap_or_else(|_| panic!("the runtime of the process has ended"));
    }

    /// Lets it go on where it was stopped.
    pub(super) fn resume(&self) {
        self.stop.send_replace(false);
        let (resumed, changed) = &*self.resume;
        *resumed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    fn spawn() -> Self {
        let (work, mut to_do) = mpsc::channel::<BoxFuture<'static, ()>>(16);
        let (stop, mut stopping) = watch::channel(false);
        let (tell_stopped, stopped) = watch::channel(false);
        let resume = Arc::new((Mutex::new(false), Condvar::new()));
        let resumed = resume.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("a runtime does not start: {error}"));
            // A runtime that nobody blocks on stands still.
            while runtime.block_on(run_until_stopped(&mut to_do, &mut stopping)) {
                tell_stopped.send_replace(true);
                let (resumed, changed) = &*resumed;
                let waiting = resumed.lock().unwrap_or_else(PoisonError::into_inner);
                let mut waiting =
                    changed.wait_while(waiting, |go| !*go).unwrap_or_else(PoisonError::into_inner);
                *waiting = false;
                tell_stopped.send_replace(false);
            }
            runtime.shutdown_timeout(patience());
        });
        Self { work, stop, stopped, resume }
    }
}

impl Drop for Process {
    /// What is stopped goes on, to end: nothing is left behind at the server.
    fn drop(&mut self) {
        self.resume();
    }
}

/// False when there will be no more work.
async fn run_until_stopped(
    to_do: &mut mpsc::Receiver<BoxFuture<'static, ()>>,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    loop {
        tokio::select! {
            biased;
            stop = stopping.wait_for(|stop| *stop) => return stop.is_ok(),
            work = to_do.recv() => match work {
                Some(work) => drop(tokio::spawn(work)),
                None => return false,
            },
        }
    }
}
