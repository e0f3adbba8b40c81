//! Spans as OpenTelemetry's SDK exports them.

mod conventions;
mod outbox;
mod process;
mod publish;
mod quiet;
mod relay;
mod support;
