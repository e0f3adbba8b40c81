//! [`Service`]: a process of the service.

use std::{collections::HashMap, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::in_time;

/// Ends with what is dropped.
pub(crate) struct Service {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
    /// `host:port`.
    pub(crate) address: String,
}

impl Service {
    /// Starts it, and waits until it listens.
    pub(crate) async fn start(settings: &HashMap<&'static str, String>) -> Self {
        let mut child = command(settings).stdout(Stdio::piped()).spawn().expect("the service starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        in_time(stdout.read_line(&mut line)).await.expect("it is text");
        let address =
            line.trim().strip_prefix("listening on http://").expect("it says where it listens").to_owned();
        Self { child, stdout, address }
    }

    /// Ends it politely; what it printed.
    pub(crate) async fn stop(&mut self) -> String {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.expect("there is a kill");
        assert!(sent.success());
        let mut output = String::new();
        let ended = async {
            self.stdout.read_to_string(&mut output).await.expect("it is text");
            self.child.wait().await.expect("it is our child")
        };
        let status = in_time(ended).await;
        assert!(status.success(), "{status}: {output}");
        output
    }
}

/// What a service says that does not start.
pub(crate) async fn refused(settings: &HashMap<&'static str, String>) -> String {
    let output = command(settings).output().await.expect("the service starts");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("it is text")
}

/// What a service prints that ends by itself.
pub(crate) async fn output(settings: &HashMap<&'static str, String>, arguments: &[&str]) -> String {
    let output = command(settings).args(arguments).output().await.expect("the service starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

fn command(settings: &HashMap<&'static str, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
    command.envs(settings).env("RUST_LOG", "warn").kill_on_drop(true);
    command
}
