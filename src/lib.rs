//! allsource: event streams inside PostgreSQL.
//!
//! The layers, each of which knows only those to its left:
//!
//! ```text
//! model ← codec ← pg ← api ← lib.rs
//! ```
//!
//! `model` and `codec` are plain Rust and build without PostgreSQL (`--no-default-features`). `pg`
//! is the only boundary to PostgreSQL, and `api` holds the SQL functions. The design is described
//! in `docs/ARCHITECTURE.md`.

pub mod codec;
pub mod model;
