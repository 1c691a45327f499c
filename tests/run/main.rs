//! The program as its users meet it: the real binary, on a table of the embedded DynamoDB, reached through the AWS SDK.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bench;
mod keystore;
mod progress;
mod refusals;
mod rotate;
mod round_trip;
mod stream;
