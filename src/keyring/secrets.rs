//! Keys that AWS Secrets Manager keeps.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::primitives::Blob;
use zeroize::Zeroizing;

use crate::aws::{AwsConfig, Fault};

/// What a secret holds; wiped when dropped. Copies that the HTTP client made on the way are out of reach.
pub enum SecretValue {
    /// `SecretBinary`: bytes.
    Binary(Zeroizing<Vec<u8>>),
    /// `SecretString`: text.
    Text(Zeroizing<String>),
}

/// Which of both, and nothing of the secret.
impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Binary(_) => "Binary(..)",
            Self::Text(_) => "Text(..)",
        })
    }
}

/// A secret that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret {secret}: {problem}")]
pub struct SecretError {
    /// The secret's name or ARN.
    pub secret: String,
    /// What happened, and the remedy.
    pub problem: String,
}

/// Reads the current version of a secret, by its name or ARN. One request.
///
/// # Errors
/// [`SecretError`] when there is none, the caller may not read it, or the service did not answer.
pub async fn read_secret(config: &AwsConfig, secret: &str) -> Result<SecretValue, SecretError> {
    let refused = |problem| SecretError { secret: secret.to_owned(), problem };
    let result = Client::new(config.sdk()).get_secret_value().secret_id(secret).send().await;
    let output = result.map_err(|error| refused(problem(&Fault::of(&error), config)))?;
    // Both are taken over, so that both are wiped.
    let text = output.secret_string.map(Zeroizing::new);
    let binary = output.secret_binary.map(Blob::into_inner).map(Zeroizing::new);
    let value = binary.map(SecretValue::Binary).or_else(|| text.map(SecretValue::Text));
    value.ok_or_else(|| refused("it is empty; put the key into it".to_owned()))
}

fn problem(fault: &Fault, config: &AwsConfig) -> String {
    let remedy = match fault.code() {
        "ResourceNotFoundException" => {
            let region = config.region().unwrap_or_default();
            format!("; check name and Region: it was looked for in {region}")
        }
        "AccessDeniedException" => {
            "; allow secretsmanager:GetSecretValue on the secret, and kms:Decrypt on the key that it is encrypted with"
                .to_owned()
        }
        "DecryptionFailure" => {
            "; allow kms:Decrypt on the key that the secret is encrypted with, and check that it is enabled".to_owned()
        }
        "InvalidRequestException" => "; if the secret is scheduled for deletion, restore it".to_owned(),
        _ => String::new(),
    };
    format!("GetSecretValue: {fault}{remedy}")
}
