//! Keyrings as the job file describes them, ready for use.

use std::sync::Arc;

use super::exit::Exit;
use super::failure::Failure;
use super::job::{HierarchySettings, KeySource, KeyringSettings};
use crate::aws::{Access, AwsConfig};
use crate::keyring::{Hierarchy, KeyArn, KeyStore, Keyring, KmsKeyring, RawAes};

/// Makes a keyring. Reads key files and the AWS configuration; sends nothing to a key service.
///
/// # Errors
/// [`Failure`] when a key cannot be had, or the AWS configuration does not serve.
pub(super) async fn open(settings: &KeyringSettings) -> Result<Arc<dyn Keyring>, Failure> {
    match settings {
        KeyringSettings::RawAes { namespace, name, key } => raw_aes(namespace, name, key),
        KeyringSettings::AwsKms { key_arn, access } => Ok(Arc::new(kms(key_arn, access).await?)),
        KeyringSettings::Hierarchy(settings) => Ok(Arc::new(hierarchy(settings).await?)),
    }
}

/// Makes a keyring and demands of its key service that the key can be used for items.
///
/// # Errors
/// As [`open`], and [`Failure`] when the key cannot be used.
pub(super) async fn open_usable(settings: &KeyringSettings) -> Result<Arc<dyn Keyring>, Failure> {
    match settings {
        KeyringSettings::RawAes { namespace, name, key } => raw_aes(namespace, name, key),
        KeyringSettings::AwsKms { key_arn, access } => {
            let keyring = kms(key_arn, access).await?;
            keyring.examine().await?;
            Ok(Arc::new(keyring))
        }
        KeyringSettings::Hierarchy(settings) => {
            let keyring = hierarchy(settings).await?;
            keyring.examine().await?;
            Ok(Arc::new(keyring))
        }
    }
}

fn raw_aes(namespace: &str, name: &str, key: &KeySource) -> Result<Arc<dyn Keyring>, Failure> {
    let keyring = RawAes::new(namespace, name, key.read()?.expose());
    Ok(Arc::new(keyring.map_err(|error| Failure::plain(Exit::Usage, error))?))
}

async fn kms(key_arn: &KeyArn, access: &Access) -> Result<KmsKeyring, Failure> {
    Ok(KmsKeyring::new(&AwsConfig::load(access).await?, key_arn.clone())?)
}

async fn hierarchy(settings: &HierarchySettings) -> Result<Hierarchy, Failure> {
    let HierarchySettings { table, name, readers, branch_key, keep, access } = settings;
    let tables = AwsConfig::load(access).await?;
    let kms = AwsConfig::load(&settings.kms_access()).await?;
    let store = KeyStore::new(&tables, &kms, table, name, readers.clone());
    Ok(Hierarchy::new(store, branch_key.clone(), *keep))
}
