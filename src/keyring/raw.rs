//! stub
#![allow(missing_docs)]
use super::*;
#[derive(Debug)] pub struct RawAes; 
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct RawAesError;
impl RawAes { pub fn new(_n:String,_k:String,_s:Secret)->Result<Self,RawAesError>{todo!()} }
#[async_trait] impl Keyring for RawAes { fn recipients(&self)->&[Recipient]{todo!()} fn accepts(&self,_:WrappedRef<'_>)->bool{todo!()} fn requests(&self)->u32{0} async fn generate(&self,_:&EncryptionContext)->Result<Vec<WrappedKey>,KeyringError>{todo!()} async fn unwrap(&self,_:WrappedRef<'_>,_:&EncryptionContext)->Result<Secret,KeyringError>{todo!()} }
