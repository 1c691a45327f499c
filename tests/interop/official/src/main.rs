//! `official seal|open --job FILE < lines > lines`: what `reseal item seal|open` does, done by AWS's own library.
//!
//! Lines are DynamoDB JSON, `{"Item": {...}}`; their order is kept, and one that cannot be done becomes
//! `{"Error": "..."}` in its place. Exit codes: 0 all done, 4 a line failed, 1 nothing could be done.

use std::io::{BufRead as _, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use aws_db_esdk::item_encryptor::client::Client as ItemEncryptor;
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use clap::{Parser, Subcommand};
use official::job::Job;
use official::{Failure, dynamodb_json, encryptor};
use serde_json::{Value as Json, json};

#[derive(Parser)]
#[command(about = "Seals and opens DynamoDB items with the official library, from reseal's job file")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Seals the items on standard input.
    Seal {
        /// The job file.
        #[arg(long)]
        job: PathBuf,
    },
    /// Opens the sealed items on standard input.
    Open {
        /// The job file.
        #[arg(long)]
        job: PathBuf,
    },
    /// Makes a KMS key and prints its ARN: a symmetric one, unless it is to be another.
    CreateKey {
        /// One for several Regions.
        #[arg(long)]
        multi_region: bool,
        /// An RSA key.
        #[arg(long)]
        rsa: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Seal { job } => each_line(&job, true).await,
        Command::Open { job } => each_line(&job, false).await,
        Command::CreateKey { multi_region, rsa } => create_key(multi_region, rsa).await,
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("official: {failure}");
        ExitCode::FAILURE
    })
}

async fn each_line(job: &std::path::Path, seals: bool) -> Result<ExitCode, Failure> {
    let encryptor = encryptor::for_job(&Job::read(job)?).await?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut failed = false;
    // `lines` splits at line feeds only, as it must: values may hold other separators.
    for line in std::io::stdin().lock().lines() {
        let answer = match one_line(&encryptor, &line?, seals).await {
            Ok(item) => json!({ "Item": item }),
            Err(failure) => {
                failed = true;
                json!({ "Error": failure.to_string() })
            }
        };
        writeln!(out, "{answer}")?;
    }
    out.flush()?;
    Ok(if failed { ExitCode::from(4) } else { ExitCode::SUCCESS })
}

async fn one_line(encryptor: &ItemEncryptor, line: &str, seals: bool) -> Result<Json, Failure> {
    let line: Json = serde_json::from_str(line)?;
    let item = dynamodb_json::item_from(line.get("Item").ok_or("the line has no \"Item\"")?)?;
    let done = if seals { encryptor::seal(encryptor, item).await? } else { encryptor::open(encryptor, item).await? };
    Ok(dynamodb_json::item_to(&done))
}

async fn create_key(multi_region: bool, rsa: bool) -> Result<ExitCode, Failure> {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let create = aws_sdk_kms::Client::new(&config).create_key().multi_region(multi_region);
    let spec = if rsa { KeySpec::Rsa2048 } else { KeySpec::SymmetricDefault };
    let key = create.key_spec(spec).key_usage(KeyUsageType::EncryptDecrypt).send().await?;
    let metadata = key.key_metadata.ok_or("KMS answered without the key's metadata")?;
    println!("{}", metadata.arn.ok_or("KMS answered without the key's ARN")?);
    Ok(ExitCode::SUCCESS)
}
