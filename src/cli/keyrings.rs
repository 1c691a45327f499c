//! Keyrings as the job file describes them, ready for use.

use std::sync::Arc;

use super::exit::Exit;
use super::failure::Failure;
use super::job::KeyringSettings;
use crate::aws::{Access, AwsConfig};
use crate::keyring::{KeyArn, Keyring, KmsKeyring, RawAes};

/// Makes a keyring. Reads key files and the AWS configuration; sends nothing to a key service.
///
/// # Errors
/// [`Failure`] when a key cannot be had, or the AWS configuration does not serve.
pub(super) async fn open(settings: &KeyringSettings) -> Result<Arc<dyn Keyring>, Failure> {
    Ok(match settings {
        KeyringSettings::RawAes { namespace, name, key } => {
            let keyring = RawAes::new(namespace, name, key.read()?.expose());
            Arc::new(keyring.map_err(|error| Failure::plain(Exit::Usage, error))?)
        }
        KeyringSettings::AwsKms { key_arn, profile, role_arn } => {
            Arc::new(kms(key_arn, profile.as_deref(), role_arn.as_deref()).await?)
        }
    })
}

/// Makes a keyring for a run over a table: a key of KMS is looked at first, whether it can be used.
///
/// # Errors
/// [`Failure`] as [`open`], and when the key will not do.
pub(super) async fn open_usable(settings: &KeyringSettings) -> Result<Arc<dyn Keyring>, Failure> {
    match settings {
        KeyringSettings::AwsKms { key_arn, profile, role_arn } => {
            let keyring = kms(key_arn, profile.as_deref(), role_arn.as_deref()).await?;
            keyring.examine().await?;
            Ok(Arc::new(keyring))
        }
        KeyringSettings::RawAes { .. } => open(settings).await,
    }
}

async fn kms(key: &KeyArn, profile: Option<&str>, role_arn: Option<&str>) -> Result<KmsKeyring, Failure> {
    let text = |text: &str| text.to_owned();
    let access =
        Access { region: Some(key.region().to_owned()), profile: profile.map(text), role_arn: role_arn.map(text) };
    Ok(KmsKeyring::new(&AwsConfig::load(&access).await?, key.clone())?)
}

/// Makes every keyring, in order.
///
/// # Errors
/// [`Failure`] of the first that cannot be made.
pub(super) async fn open_all<'a>(
    settings: impl IntoIterator<Item = &'a KeyringSettings>,
) -> Result<Vec<Arc<dyn Keyring>>, Failure> {
    let mut keyrings = Vec::new();
    for settings in settings {
        keyrings.push(open(settings).await?);
    }
    Ok(keyrings)
}
