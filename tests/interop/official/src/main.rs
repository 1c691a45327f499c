//! `official seal|open --job FILE < lines > lines`: what `reseal item seal|open` does, done by AWS's own library; and
//! `official keystore`, what `reseal keystore` does. The other commands make keys and fill tables.
//!
//! Lines are DynamoDB JSON, `{"Item": {...}}`; their order is kept, and one that cannot be done becomes
//! `{"Error": "..."}` in its place. Exit codes: 0 all done, 4 a line failed, 1 nothing could be done.

use std::collections::HashMap;
use std::io::{BufRead as _, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use official::dynamodb_json::{self, Item};
use official::job::Job;
use official::table::Table;
use official::{Failure, encryptor, keyring, keystore};
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
    /// Makes the job's table and puts the items on standard input into it, as they are.
    Put {
        /// The job file.
        #[arg(long)]
        job: PathBuf,
    },
    /// Reads the items with the keys of those on standard input from the job's table, as they are.
    Get {
        /// The job file.
        #[arg(long)]
        job: PathBuf,
    },
    /// Makes a KMS key and prints its ARN.
    CreateKey {
        /// An RSA key for encryption.
        #[arg(long)]
        rsa: bool,
        /// A multi-Region key.
        #[arg(long)]
        multi_region: bool,
    },
    /// Makes a replica of a multi-Region key and prints its ARN.
    ReplicateKey {
        /// The key.
        #[arg(long)]
        key_arn: String,
        /// Where to.
        #[arg(long)]
        region: String,
    },
    /// Prints the public key of an RSA key of KMS in PEM.
    PublicKey {
        /// The key.
        #[arg(long)]
        key_arn: String,
    },
    /// A key store.
    #[command(subcommand)]
    Keystore(KeyStore),
}

#[derive(Subcommand)]
enum KeyStore {
    /// Makes the table.
    Create(Store),
    /// Makes a branch key.
    NewBranchKey {
        #[command(flatten)]
        store: Store,
        /// The KMS key that wraps it.
        #[arg(long)]
        kms_key_arn: String,
        /// Its id.
        #[arg(long)]
        branch_key_id: Option<String>,
        /// A pair of its context, `NAME=VALUE`.
        #[arg(long)]
        context: Vec<String>,
    },
    /// Fails unless a branch key, its ACTIVE version and its beacon key can be read.
    Read {
        #[command(flatten)]
        store: Store,
        /// The KMS key that wraps it.
        #[arg(long)]
        kms_key_arn: String,
        /// The branch key.
        #[arg(long)]
        branch_key_id: String,
    },
    /// Makes a new version of a branch key.
    Rotate {
        #[command(flatten)]
        store: Store,
        /// The KMS key that wraps it.
        #[arg(long)]
        kms_key_arn: String,
        /// The branch key.
        #[arg(long)]
        branch_key_id: String,
    },
}

#[derive(Args)]
struct Store {
    /// The table.
    #[arg(long)]
    table: String,
    /// The logical name.
    #[arg(long)]
    name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    run(Arguments::parse().command).await.unwrap_or_else(|failure| {
        eprintln!("official: {failure}");
        ExitCode::FAILURE
    })
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Seal { job } => {
            let encryptor = encryptor::for_job(&Job::read(&job)?).await?;
            return each_line(async |item| encryptor::seal(&encryptor, item).await).await;
        }
        Command::Open { job } => {
            let encryptor = encryptor::for_job(&Job::read(&job)?).await?;
            return each_line(async |item| encryptor::open(&encryptor, item).await).await;
        }
        Command::Put { job } => put(&job).await?,
        Command::Get { job } => {
            let job = Job::read(&job)?;
            let table = Table::of(&job).await;
            return each_line(async |item| table.get(item).await).await;
        }
        Command::CreateKey { rsa, multi_region } => println!("{}", keystore::new_kms_key(rsa, multi_region).await?),
        Command::ReplicateKey { key_arn, region } => println!("{}", keystore::replicate(&key_arn, &region).await?),
        Command::PublicKey { key_arn } => {
            let client = aws_sdk_kms::Client::new(&keyring::config(None, None).await);
            print!("{}", keystore::public_key(&client, &key_arn).await?);
        }
        Command::Keystore(command) => key_store(command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn each_line(done: impl AsyncFn(Item) -> Result<Item, Failure>) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut failed = false;
    // `lines` splits at line feeds only, as it must: values may hold other separators.
    for line in std::io::stdin().lock().lines() {
        let outcome = match item_of(&line?) {
            Ok(item) => done(item).await,
            Err(failure) => Err(failure),
        };
        let answer = match outcome {
            Ok(item) => json!({ "Item": dynamodb_json::item_to(&item) }),
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

fn item_of(line: &str) -> Result<Item, Failure> {
    let line: Json = serde_json::from_str(line)?;
    dynamodb_json::item_from(line.get("Item").ok_or("the line has no \"Item\"")?)
}

async fn put(job: &Path) -> Result<(), Failure> {
    let job = Job::read(job)?;
    let table = Table::of(&job).await;
    for (index, line) in std::io::stdin().lock().lines().enumerate() {
        let item = item_of(&line?)?;
        if index == 0 {
            table.create(&item).await?;
        }
        table.put(item).await?;
    }
    Ok(())
}

async fn key_store(command: KeyStore) -> Result<(), Failure> {
    match command {
        KeyStore::Create(store) => {
            keystore::client(&store.table, &store.name, None).await?.create_key_store().send().await?;
        }
        KeyStore::NewBranchKey { store, kms_key_arn, branch_key_id, context } => {
            let client = keystore::client(&store.table, &store.name, Some(&kms_key_arn)).await?;
            let pair = |pair: &String| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            let context: Option<HashMap<_, _>> = context.iter().map(pair).collect();
            let context = context.ok_or("a context is written NAME=VALUE")?;
            println!("{}", keystore::new_branch_key(&client, branch_key_id, context).await?);
        }
        KeyStore::Read { store, kms_key_arn, branch_key_id } => {
            let client = keystore::client(&store.table, &store.name, Some(&kms_key_arn)).await?;
            keystore::read(&client, &branch_key_id).await?;
        }
        KeyStore::Rotate { store, kms_key_arn, branch_key_id } => {
            let client = keystore::client(&store.table, &store.name, Some(&kms_key_arn)).await?;
            client.version_key().branch_key_identifier(branch_key_id).send().await?;
        }
    }
    Ok(())
}
