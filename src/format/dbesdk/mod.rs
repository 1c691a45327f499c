//! Stub.
#![allow(missing_docs, unused)]
use crate::crypto::*;
use crate::format::*;
use crate::item::*;
pub const HEAD: &str = "aws_dbe_head";
pub const FOOT: &str = "aws_dbe_foot";
#[derive(Debug, Clone)]
pub struct EncryptedDataKey {
    pub provider_id: String,
    pub provider_info: Vec<u8>,
    pub ciphertext: Vec<u8>,
}
impl EncryptedDataKey {
    pub fn wrapped(&self) -> Option<WrappedRef<'_>> {
        todo!()
    }
    pub fn recipient(&self) -> Recipient {
        todo!()
    }
}
#[derive(Debug, Clone)]
pub struct Head {
    pub version: u8,
    pub suite: Suite,
    pub message_id: [u8; 32],
    pub legend: Vec<Action>,
    pub edks: Vec<EncryptedDataKey>,
}
#[derive(Debug, Clone)]
pub struct Sealed {
    pub head: Head,
    pub fields: Vec<(String, Action)>,
    pub context: EncryptionContext,
}
#[derive(Debug)]
pub enum Inspection {
    Plaintext,
    Sealed(Box<Sealed>),
}
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("x")]
    Mixed {},
    #[error("y")]
    Other,
}
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("x")]
    A,
}
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("x")]
    UnknownAttribute { name: String },
    #[error("z")]
    Other,
}
pub fn inspect(schema: &Schema, item: &Item) -> Result<Inspection, InspectError> {
    todo!()
}
pub fn open(item: &Item, sealed: &Sealed, edk: usize, key: &Secret) -> Result<Item, OpenError> {
    todo!()
}
#[derive(Debug)]
pub struct Prepared {
    pub context: EncryptionContext,
}
pub fn prepare(schema: &Schema, suite: Suite, item: &Item) -> Result<Prepared, SealError> {
    todo!()
}
pub fn seal(item: &Item, p: Prepared, k: &Secret, m: [u8; 32], r: &[WrappedKey]) -> Result<Item, SealError> {
    todo!()
}
pub fn matches(s: &Schema, suite: Suite, r: &[Recipient], sealed: &Sealed) -> bool {
    todo!()
}
