//! Several keyrings as one: each wraps a key for its own recipients, and whichever can unwraps (AWS Material Providers
//! Library specification, `multi-keyring.md`).

use std::sync::Arc;

use async_trait::async_trait;

use super::{Keyring, KeyringCall, KeyringClass, KeyringError, Wanted, WrappedKey, WrappedRef};
use crate::crypto::{EncryptionContext, Secret};

/// A keyring of keyrings. With these formats a generator differs from other children in its place only: it is the first.
#[derive(Debug)]
pub struct MultiKeyring {
    children: Vec<Arc<dyn Keyring>>,
    recipients: Vec<Wanted>,
}

impl MultiKeyring {
    /// A keyring of these, the generator first. No two of them may be for the same key.
    #[must_use]
    pub fn new(children: Vec<Arc<dyn Keyring>>) -> Self {
        let recipients = children.iter().flat_map(|child| child.recipients().to_vec()).collect();
        Self { children, recipients }
    }

    fn deep(&self) -> impl Iterator<Item = &Arc<dyn Keyring>> {
        self.children.iter().filter(|child| child.looks_deeper())
    }
}

#[async_trait]
impl Keyring for MultiKeyring {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.children.iter().any(|child| child.accepts(found))
    }

    fn requests(&self, call: KeyringCall) -> u32 {
        let of = |child: &Arc<dyn Keyring>| child.requests(call);
        match call {
            KeyringCall::Generate => self.children.iter().map(of).sum(),
            KeyringCall::Unwrap => self.children.iter().map(of).max().unwrap_or(0),
            KeyringCall::IsCurrent => self.deep().map(of).sum(),
        }
    }

    fn looks_deeper(&self) -> bool {
        self.deep().next().is_some()
    }

    /// Asks each child that looks deeper about what is for it, wherever that stands.
    async fn is_current(&self, found: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        for child in self.deep() {
            let own: Vec<_> = found.iter().copied().filter(|found| child.accepts(*found)).collect();
            if own.len() != child.recipients().len() || !child.is_current(&own, context).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn moved(&self) -> Result<Option<String>, KeyringError> {
        for child in &self.children {
            if let Some(moved) = child.moved().await? {
                return Ok(Some(moved));
            }
        }
        Ok(None)
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let mut keys = Vec::with_capacity(self.recipients.len());
        for child in &self.children {
            keys.extend(child.generate(context).await?);
        }
        Ok(keys)
    }

    /// By the first child that can. What one child may not or cannot do, another may: by other credentials, say.
    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let mut refused = None;
        for child in self.children.iter().filter(|child| child.accepts(found)) {
            match child.unwrap(found, context).await {
                Err(error) if matches!(error.class, KeyringClass::Item | KeyringClass::Denied) => refused = Some(error),
                answer => return answer,
            }
        }
        Err(refused.unwrap_or_else(|| KeyringError {
            class: KeyringClass::Item,
            key: found.provider_id.to_owned(),
            problem: "no keyring of the multi keyring opens it; add one that does".to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;

    use super::*;
    use crate::keyring::{RawAes, Recipient};

    /// A raw keyring that counts as one over a service: it says what it was asked, and what to answer is said to it.
    #[derive(Debug)]
    struct Told {
        inner: RawAes,
        requests: u32,
        deep: bool,
        current: bool,
        refuses: Option<KeyringClass>,
        asked: Mutex<Vec<Vec<u8>>>,
    }

    impl Told {
        fn new(name: &str, requests: u32) -> Self {
            let inner = RawAes::new("acme", name, &[7; 32]).unwrap();
            Self { inner, requests, deep: false, current: true, refuses: None, asked: Mutex::default() }
        }
    }

    #[async_trait]
    impl Keyring for Told {
        fn recipients(&self) -> &[Wanted] {
            self.inner.recipients()
        }

        fn accepts(&self, found: WrappedRef<'_>) -> bool {
            self.inner.accepts(found)
        }

        fn requests(&self, _: KeyringCall) -> u32 {
            self.requests
        }

        fn looks_deeper(&self) -> bool {
            self.deep
        }

        async fn is_current(&self, found: &[WrappedRef<'_>], _: &EncryptionContext) -> Result<bool, KeyringError> {
            self.asked.lock().unwrap().extend(found.iter().map(|found| found.provider_info.to_vec()));
            Ok(self.current)
        }

        async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
            self.inner.generate(context).await
        }

        async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
            match self.refuses {
                Some(class) => Err(KeyringError { class, key: "k".into(), problem: "told to".into() }),
                None => self.inner.unwrap(found, context).await,
            }
        }
    }

    fn context() -> EncryptionContext {
        [("k".to_owned(), "v".to_owned())].into_iter().collect()
    }

    fn multi(children: Vec<Told>) -> MultiKeyring {
        MultiKeyring::new(children.into_iter().map(|child| Arc::new(child) as Arc<dyn Keyring>).collect())
    }

    fn generate(keyring: &dyn Keyring) -> Vec<WrappedKey> {
        keyring.generate(&context()).now_or_never().unwrap().unwrap()
    }

    #[test]
    fn one_wrapped_key_per_child_and_any_of_them_unwraps() {
        let keyring = multi(vec![Told::new("k1", 1), Told::new("k2", 2)]);
        let names: Vec<&str> = keyring.recipients().iter().map(|wanted| wanted.recipient.key.as_str()).collect();
        assert_eq!(names, ["k1", "k2"]);
        let made = generate(&keyring);
        assert_eq!(made.len(), 2);
        assert_ne!(made[0].key, made[1].key);
        for made in &made {
            assert!(keyring.accepts(made.wrapped()));
            let key = keyring.unwrap(made.wrapped(), &context()).now_or_never().unwrap().unwrap();
            assert_eq!(key, made.key);
        }
        let foreign = generate(&Told::new("k3", 0)).remove(0);
        assert!(!keyring.accepts(foreign.wrapped()));
        let error = keyring.unwrap(foreign.wrapped(), &context()).now_or_never().unwrap().unwrap_err();
        assert_eq!(error.class, KeyringClass::Item);
    }

    #[test]
    fn what_calls_cost() {
        let mut deep = Told::new("k3", 5);
        deep.deep = true;
        let keyring = multi(vec![Told::new("k1", 1), Told::new("k2", 2), deep]);
        let calls = [KeyringCall::Generate, KeyringCall::Unwrap, KeyringCall::IsCurrent];
        assert_eq!(calls.map(|call| keyring.requests(call)), [8, 5, 5]);
    }

    #[test]
    fn another_child_opens_what_one_may_not() {
        for (refuses, opens) in [
            (KeyringClass::Denied, true),
            (KeyringClass::Item, true),
            (KeyringClass::Throttled, false),
            (KeyringClass::Key, false),
        ] {
            let mut first = Told::new("k1", 1);
            first.refuses = Some(refuses);
            let keyring = multi(vec![first, Told::new("k1", 1)]);
            let made = generate(&keyring).remove(0);
            let opened = keyring.unwrap(made.wrapped(), &context()).now_or_never().unwrap();
            assert_eq!(opened.is_ok(), opens, "{refuses:?}");
            assert!(opens || opened.unwrap_err().class == refuses);
        }
    }

    #[test]
    fn each_child_is_asked_about_its_own_in_whatever_order() {
        let children = |current| {
            let (mut one, mut two) = (Told::new("k1", 1), Told::new("k2", 1));
            (one.deep, two.deep, two.current) = (true, true, current);
            [Arc::new(one), Arc::new(Told::new("k3", 1)), Arc::new(two)]
        };
        for current in [true, false] {
            let told = children(current);
            let keyring = MultiKeyring::new(told.iter().map(|child| Arc::clone(child) as Arc<dyn Keyring>).collect());
            assert!(keyring.looks_deeper());
            let made = generate(&keyring);
            let found: Vec<_> = [2, 0, 1].iter().map(|&i: &usize| made[i].wrapped()).collect();
            let answer = keyring.is_current(&found, &context()).now_or_never().unwrap().unwrap();
            assert_eq!(answer, current);
            for (child, made) in told.iter().zip(&made) {
                let expected = if child.deep { vec![made.provider_info.clone()] } else { Vec::new() };
                assert_eq!(*child.asked.lock().unwrap(), expected);
            }
            // An item that lacks what is for a child is not what it would make now.
            let answer = keyring.is_current(&found[..1], &context()).now_or_never().unwrap().unwrap();
            assert!(!answer);
        }
        assert!(!multi(vec![Told::new("k1", 1)]).looks_deeper());
        let recipient = Recipient { provider: "acme".into(), key: "k1".into() };
        assert_eq!(multi(vec![Told::new("k1", 1)]).recipients(), [Wanted::exactly(recipient)]);
    }
}
