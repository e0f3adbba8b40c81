//! What we log, as tests see it.

use std::{io, sync::LazyLock};

use tokio::sync::mpsc;
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber},
};

/// While there is but one subscriber in the process, an event that another thread, which has none, is the
/// first to come to is switched off for all. So there are two.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// The lines of this crate, while it lives.
pub(crate) struct Log {
    lines: mpsc::Receiver<String>,
    _guard: DefaultGuard,
}

impl Log {
    /// Of the thread it is made on, which is all there are in a test without worker threads.
    pub(crate) fn of_this_thread() -> Self {
        LazyLock::force(&ANOTHER);
        let (sender, lines) = mpsc::channel(1_000);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || Lines(sender.clone()))
            .finish();
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Waits for the next line about something, which is of that level.
    pub(crate) async fn line_about(&mut self, level: &str, what: &str) -> String {
        loop {
            let line = self.lines.recv().await.expect("the log goes on");
            if line.contains(what) {
                assert!(line.contains(level), "{line}");
                return line;
            }
        }
    }
}

struct Lines(mpsc::Sender<String>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if text.contains("watermill_gcp") {
            self.0.try_send(text.into_owned()).map_err(io::Error::other)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
