//! What an operator looks at.

pub mod health;
mod hot;
pub mod samples;
