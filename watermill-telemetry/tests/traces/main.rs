//! Spans as OpenTelemetry's SDK exports them.

mod backends;
mod conventions;
mod process;
mod publish;
mod quiet;
mod relay;
#[expect(dead_code, reason = "the tests of an outbox use the rest")]
mod support;
