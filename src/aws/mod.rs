//! Where AWS is reached and as whom: one configuration for each set of Region, profile and role.
//!
//! Everything comes from the standard chain of the AWS SDKs: environment, shared files, single sign-on, container and
//! instance roles, endpoint variables. Only two things are decided here. Nothing is retried inside the SDK, because a
//! throttling answer that is retried unseen never reaches the limiter that should slow down; and no request leaves for
//! an endpoint without TLS, unless that endpoint is this machine.

mod fault;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_types::service_config::ServiceConfigKey;

pub(crate) use fault::{Fault, Meaning};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the first byte of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for a whole answer. A page of a scan is 1 MB, so even slow lines are well below.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The services whose endpoints the environment may redirect, by the names that shared configuration files use.
const SERVICES: [&str; 5] = ["DynamoDB", "DynamoDB Streams", "KMS", "Secrets Manager", "STS"];

/// What a job says about how AWS is reached; the standard chain fills in what is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The Region, such as `eu-central-1`.
    pub region: Option<String>,
    /// The profile of the shared configuration files.
    pub profile: Option<String>,
    /// The ARN of a role to assume with the credentials of the chain.
    pub role_arn: Option<String>,
}

/// Why there is no usable configuration. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsConfigError {
    /// Neither the job nor the environment names a Region.
    #[error("no AWS Region: set AWS_REGION, or name a profile that has one with AWS_PROFILE")]
    NoRegion,
    /// The endpoint is neither `http` nor `https`.
    #[error("the {service} endpoint {endpoint:?} is not a URL of the form https://host[:port]")]
    Endpoint {
        /// The service.
        service: String,
        /// The endpoint as configured.
        endpoint: String,
    },
    /// Plain `http` to another machine: whoever sits between reads plaintext items and data keys.
    #[error(
        "the {service} endpoint {endpoint:?} is plain http and not this machine; data keys and items would travel \
         unprotected: use https, or a loopback address"
    )]
    PlainHttp {
        /// The service.
        service: String,
        /// The endpoint as configured.
        endpoint: String,
    },
}

/// A configuration for clients of AWS services. Holds no credentials itself, only the way to get them.
#[derive(Clone)]
pub struct AwsConfig {
    sdk: SdkConfig,
}

impl fmt::Debug for AwsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsConfig").field("region", &self.region()).finish_non_exhaustive()
    }
}

impl AwsConfig {
    /// The standard chain, with what the job adds. Reads environment and files, and asks the instance's metadata service
    /// when nothing names a Region; credentials are fetched with the first request.
    ///
    /// # Errors
    /// [`AwsConfigError`] when there is no Region, or an endpoint would be reached without TLS.
    pub async fn load(access: &Access) -> Result<Self, AwsConfigError> {
        Self::from_loader(aws_config::defaults(BehaviorVersion::latest()), access).await
    }

    async fn from_loader(mut loader: ConfigLoader, access: &Access) -> Result<Self, AwsConfigError> {
        if let Some(region) = &access.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &access.profile {
            loader = loader.profile_name(profile);
        }
        let mut sdk = loader.retry_config(RetryConfig::disabled()).timeout_config(timeouts()).load().await;
        if sdk.region().is_none() {
            return Err(AwsConfigError::NoRegion);
        }
        for service in SERVICES {
            if let Some(endpoint) = endpoint_of(&sdk, service) {
                demand_protected(service, &endpoint)?;
            }
        }
        if let Some(role) = &access.role_arn {
            let provider = AssumeRoleProvider::builder(role).session_name("reseal").configure(&sdk);
            let provider = match sdk.credentials_provider() {
                Some(base) => provider.build_from_provider(base).await,
                None => provider.build().await,
            };
            sdk = sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build();
        }
        Ok(Self { sdk })
    }

    /// A configuration for a stand-in on this machine: a fixed endpoint and credentials that mean nothing. The
    /// environment has no part in it.
    ///
    /// # Errors
    /// [`AwsConfigError`] when the endpoint is not a loopback address or not a URL.
    pub fn stand_in(endpoint: &str, region: &str) -> Result<Self, AwsConfigError> {
        demand_protected("stand-in", endpoint)?;
        let credentials = Credentials::new("stand-in", "stand-in", None, None, "stand-in");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts())
            .build();
        Ok(Self { sdk })
    }

    /// The Region that requests go to.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.sdk.region().map(AsRef::as_ref)
    }

    /// What the SDK's clients are made from.
    pub(crate) const fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// The endpoint that environment or profile set for the service, by the rules that its client follows: the service's own
/// setting first.
fn endpoint_of(sdk: &SdkConfig, service: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = key.ok().and_then(|key| sdk.service_config()?.load_config(key));
    own.or_else(|| sdk.endpoint_url().map(str::to_owned))
}

/// Refuses an endpoint that is neither TLS nor this machine.
fn demand_protected(service: &str, endpoint: &str) -> Result<(), AwsConfigError> {
    let (service, endpoint) = (service.to_owned(), endpoint.to_owned());
    let Some((scheme, rest)) = endpoint.split_once("://") else {
        return Err(AwsConfigError::Endpoint { service, endpoint });
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A name before an `@` would make another host look like this machine; no endpoint of AWS has one.
    if authority.is_empty() || authority.contains('@') {
        return Err(AwsConfigError::Endpoint { service, endpoint });
    }
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok(()),
        "http" if is_loopback(authority) => Ok(()),
        "http" => Err(AwsConfigError::PlainHttp { service, endpoint }),
        _ => Err(AwsConfigError::Endpoint { service, endpoint }),
    }
}

/// Whether `host`, `host:port` or `[address]:port` is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[expect(deprecated, reason = "the new name of ProfileFiles is in a crate that aws-config does not export")]
mod tests {
    use super::*;
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};

    #[test]
    fn endpoints_are_tls_or_this_machine() {
        for good in [
            "https://dynamodb.eu-central-1.amazonaws.com",
            "https://10.0.0.5:8000/path",
            "http://127.0.0.1:8000",
            "http://127.9.9.9",
            "http://localhost:8000/",
            "HTTP://LOCALHOST",
            "http://[::1]:8000",
        ] {
            assert_eq!(demand_protected("KMS", good), Ok(()), "{good}");
        }
        for plain in [
            "http://10.0.0.5:8000",
            "http://kms.internal",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://[fe80::1]:80",
        ] {
            let refused = demand_protected("KMS", plain).unwrap_err();
            assert!(matches!(refused, AwsConfigError::PlainHttp { .. }), "{plain}: {refused}");
        }
        for malformed in ["localhost:8000", "ftp://localhost", "http://", "http://127.0.0.1@example.com/"] {
            let refused = demand_protected("KMS", malformed).unwrap_err();
            assert!(matches!(refused, AwsConfigError::Endpoint { .. }), "{malformed}: {refused}");
        }
    }

    async fn load(profile: &str) -> Result<AwsConfig, AwsConfigError> {
        let files = ProfileFiles::builder().with_contents(ProfileFileKind::Config, profile).build();
        let loader = aws_config::defaults(BehaviorVersion::latest()).profile_files(files);
        AwsConfig::from_loader(loader, &Access { profile: Some("job".into()), ..Access::default() }).await
    }

    #[tokio::test]
    async fn the_endpoint_of_each_service_is_looked_at() {
        let config = load("[profile job]\nregion = eu-west-3\n").await.unwrap();
        assert_eq!(config.region(), Some("eu-west-3"));
        assert_eq!(config.sdk().retry_config().unwrap().max_attempts(), 1);

        for (key, service) in [
            ("kms", "KMS"),
            ("dynamodb", "DynamoDB"),
            ("dynamodb-streams", "DynamoDB Streams"),
            ("secrets-manager", "Secrets Manager"),
        ] {
            let profile = format!(
                "[profile job]\nregion = eu-west-3\nservices = s\n\n[services s]\n{key} =\n  endpoint_url = \
                 http://192.0.2.1:1\n"
            );
            let refused = load(&profile).await.unwrap_err();
            let expected = AwsConfigError::PlainHttp { service: service.into(), endpoint: "http://192.0.2.1:1".into() };
            assert_eq!(refused, expected);
        }
        let refused = load("[profile job]\nregion = eu-west-3\nendpoint_url = http://192.0.2.1\n").await.unwrap_err();
        assert!(matches!(refused, AwsConfigError::PlainHttp { .. }), "{refused}");
    }

    #[test]
    fn a_stand_in_is_on_this_machine() {
        let config = AwsConfig::stand_in("http://127.0.0.1:8000", "eu-central-1").unwrap();
        assert_eq!(config.region(), Some("eu-central-1"));
        assert!(AwsConfig::stand_in("http://192.0.2.1:8000", "eu-central-1").is_err());
    }
}
