//! In-memory.
