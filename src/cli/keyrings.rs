//! Keyrings as the job file describes them, ready for use.

use std::sync::Arc;

use super::exit::Exit;
use super::failure::Failure;
use super::job::KeyringSettings;
use crate::aws::{Access, AwsConfig};
use crate::keyring::{Keyring, KmsKeyring, RawAes};

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
            let region = Some(key_arn.region().to_owned());
            let access = Access { region, profile: profile.clone(), role_arn: role_arn.clone() };
            Arc::new(KmsKeyring::new(&AwsConfig::load(&access).await?, key_arn.clone())?)
        }
    })
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
