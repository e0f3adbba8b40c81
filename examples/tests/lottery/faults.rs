//! The lottery while its broker breaks.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
};

use watermill_testkit::{PrivateServer, Service};

use super::text;

/// Runs while the broker is killed and started again, and while it is frozen for a moment.
pub(crate) fn run_while_the_broker_fails(
    service: Service,
    url_of: fn(&str) -> String,
    database: &str,
) -> String {
    let broker = PrivateServer::start(service);
    let url = url_of(broker.url());
    // Draws that take as long as the faults do.
    let args = ["--seed", "1", "--draws", "150", "--pace", "20ms", "--failure-rate", "0.4"];
    let mut lottery = Command::new(env!("CARGO_BIN_EXE_lottery"))
        .args(args)
        .args(["--database", database, "--broker", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the lottery starts");
    // It refuses to start without its broker: what breaks breaks when draws are on their way.
    let mut said = BufReader::new(lottery.stderr.take().expect("it is piped")).lines();
    let mut log =
        said.by_ref().map_while(Result::ok).take_while(|line| !line.contains(" draws, ")).collect::<Vec<_>>();
    // Nobody who speaks waits for a reader.
    let rest = thread::spawn(move || said.map_while(Result::ok).collect::<Vec<_>>());
    broker.kill();
    broker.start_again();
    broker.freeze();
    broker.thaw();
    broker.kill();
    broker.start_again();
    let output = lottery.wait_with_output().expect("it ends");
    log.extend(rest.join().expect("it reads"));
    assert!(output.status.success(), "{}{}", text(&output.stdout), log.join("\n"));
    text(&output.stdout)
}
