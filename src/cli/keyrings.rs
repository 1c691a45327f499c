//! Keyrings as the job file describes them, ready for use.

use std::path::Path;
use std::sync::Arc;

use super::exit::Exit;
use super::failure::Failure;
use super::job::{HierarchySettings, KeySource, KeyringSettings};
use crate::aws::{Access, AwsConfig};
use crate::crypto::RsaPadding;
use crate::keyring::{
    Hierarchy, KeyArn, KeyStore, Keyring, KmsDiscovery, KmsKeyring, KmsRsa, KmsRsaPadding, MultiKeyring, RawAes, RawRsa,
};

/// What a keyring is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    /// It shall wrap, and not only unwrap.
    pub(super) wraps: bool,
    /// Its key service is asked whether the key can be used for items.
    pub(super) examined: bool,
    /// Items under older material of the same KMS key shall not count as current.
    pub(super) refreshes: bool,
}

/// Makes a keyring. Reads keys and the AWS configuration.
///
/// # Errors
/// [`Failure`] when a key cannot be had or used, or the AWS configuration does not serve.
pub(super) async fn open(settings: &KeyringSettings, to: Use) -> Result<Arc<dyn Keyring>, Failure> {
    Ok(match settings {
        KeyringSettings::RawAes { namespace, name, key } => {
            let keyring = RawAes::new(namespace, name, &key.aes().await?);
            Arc::new(keyring.map_err(|error| refused(key, &error))?)
        }
        KeyringSettings::RawRsa { namespace, name, key, padding } => {
            Arc::new(raw_rsa(namespace, name, key, *padding, to).await?)
        }
        KeyringSettings::AwsKms { key_arn, any_region, access } => {
            let new = if *any_region { KmsKeyring::multi_region } else { KmsKeyring::new };
            let mut keyring = new(&AwsConfig::load(access).await?, key_arn.clone())?;
            if to.examined {
                keyring.examine().await?;
            }
            if to.refreshes {
                keyring.demand_present_material().await?;
            }
            Arc::new(keyring)
        }
        KeyringSettings::AwsKmsRsa { key_arn, padding, public_key, access } => {
            Arc::new(kms_rsa(key_arn, *padding, public_key.as_deref(), access, to).await?)
        }
        KeyringSettings::AwsKmsDiscovery { filter, access } => {
            Arc::new(KmsDiscovery::new(&AwsConfig::load(access).await?, filter.clone()))
        }
        KeyringSettings::Hierarchy(settings) => {
            let keyring = hierarchy(settings).await?;
            if to.examined {
                keyring.examine().await?;
            }
            Arc::new(keyring)
        }
        KeyringSettings::Multi(settings) => {
            let mut children = Vec::with_capacity(settings.len());
            for child in settings {
                children.push(Box::pin(open(child, to)).await?);
            }
            Arc::new(MultiKeyring::new(children))
        }
    })
}

async fn raw_rsa(
    namespace: &str,
    name: &str,
    key: &KeySource,
    padding: RsaPadding,
    to: Use,
) -> Result<RawRsa, Failure> {
    let keyring = RawRsa::new(namespace, name, &key.pem().await?, padding).map_err(|error| refused(key, &error))?;
    // A run opens what it sealed before it goes on, and verify opens everything.
    if (to.examined || !to.wraps) && !keyring.unwraps() {
        let problem = format!("{key}: a public key, which opens nothing");
        return Err(Failure::new(Exit::Usage, problem, "name the private key, or leave the keyring out"));
    }
    Ok(keyring)
}

async fn kms_rsa(
    key_arn: &KeyArn,
    padding: KmsRsaPadding,
    public_key: Option<&Path>,
    access: &Access,
    to: Use,
) -> Result<KmsRsa, Failure> {
    let mut keyring = KmsRsa::new(&AwsConfig::load(access).await?, key_arn.clone(), padding)?;
    if to.examined {
        keyring.examine().await?;
    }
    match public_key {
        _ if !to.wraps => {}
        None => keyring.fetch_public_key().await?,
        Some(file) => {
            keyring.set_public_key(&KeySource::File(file.to_owned()).pem().await?)?;
            if to.examined {
                keyring.prove_public_key().await?;
            }
        }
    }
    Ok(keyring)
}

fn refused(key: &KeySource, error: &dyn std::error::Error) -> Failure {
    Failure::plain(Exit::Usage, format!("{key}: {error}"))
}

async fn hierarchy(settings: &HierarchySettings) -> Result<Hierarchy, Failure> {
    Ok(Hierarchy::new(key_store(settings).await?, settings.branch_key.clone(), settings.keep))
}

/// The key store of a hierarchical keyring. Sends nothing.
///
/// # Errors
/// [`Failure`] when the AWS configuration does not serve.
pub(super) async fn key_store(settings: &HierarchySettings) -> Result<KeyStore, Failure> {
    let HierarchySettings { table, name, readers, access, .. } = settings;
    let tables = AwsConfig::load(access).await?;
    let kms = AwsConfig::load(&settings.kms_access()).await?;
    Ok(KeyStore::new(&tables, &kms, table, name, readers.clone()))
}
