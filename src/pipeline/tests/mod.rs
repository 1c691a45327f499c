//! The engine against the rules of docs/SEMANTICS.md: on paused time, with a table and a journal in memory, real
//! cryptography, and services that fail as each test says.

mod batch;
mod budget;
mod crash;
mod follow;
mod ground;
mod mixed;
mod passes;
mod rotate;
mod stop;
mod tail;
mod world;
mod writes;
