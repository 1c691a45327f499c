//! On-item envelopes: how a protected item looks, attribute by attribute. Pure: bytes in, bytes out.

pub mod dbesdk;
mod schema;

pub use schema::{Action, RESERVED_PREFIX, Schema, Unsigned};
