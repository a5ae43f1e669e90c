//! The sidecar against the batches that it is an index of.
//! `make test KINDS=sidecar`

#[path = "../hot/mod.rs"]
mod hot;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod model;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod server;
