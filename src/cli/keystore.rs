//! `reseal keystore`: branch keys and the KMS keys behind them. Without `--execute` nothing that can write is made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use uuid::Builder;

use super::args::{
    CreateKeyStoreArgs, KeyStoreArgs, KeyStoreCommand, NewBranchKeyArgs, ReadersArg, RewrapArgs, RotateArgs,
};
use super::exit::Exit;
use super::failure::Failure;
use super::output;
use crate::aws::{Access, AwsConfig};
use crate::keyring::{
    Created, DiscoveryFilter, KeyArn, KeyStore, KeyStoreAdmin, KeyStoreError, KeyStoreReaders, Moved, RowFacts,
};

/// How often a branch key is tried again when a service asks for patience, and the first pause, which doubles.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const NOTHING_WRITTEN: &str = "nothing was written; add --execute to do it";

/// Runs a command.
pub(super) async fn run(command: KeyStoreCommand) -> Result<Exit, Failure> {
    match command {
        KeyStoreCommand::Create(args) => create(&args).await,
        KeyStoreCommand::NewBranchKey(args) => new_branch_key(&args).await,
        KeyStoreCommand::Rotate(args) => rotate(&args).await,
        KeyStoreCommand::Rewrap(args) => rewrap(&args).await,
        KeyStoreCommand::Describe(args) => describe(&args.store, args.branch_key_id.as_deref()).await,
    }
}

/// The key store, with KMS in the Region of the key.
async fn open(args: &KeyStoreArgs, readers: KeyStoreReaders, key: Option<&KeyArn>) -> Result<KeyStore, Failure> {
    let tables = AwsConfig::load(&Access::default()).await?;
    let kms = match key {
        Some(key) => AwsConfig::load(&Access { region: Some(key.region().to_owned()), ..Access::default() }).await?,
        None => tables.clone(),
    };
    let name = args.name.as_ref().unwrap_or(&args.table);
    Ok(KeyStore::new(&tables, &kms, &args.table, name, readers))
}

/// For commands that have KMS unwrap nothing.
fn nobody() -> KeyStoreReaders {
    KeyStoreReaders::Discovery(DiscoveryFilter { partition: String::new(), accounts: Some([].into()) })
}

fn tell(args: &KeyStoreArgs, text: &str, json: &serde_json::Value) -> Result<(), Failure> {
    if args.json { output::json(json) } else { output::line(text) }
}

async fn create(args: &CreateKeyStoreArgs) -> Result<Exit, Failure> {
    let (store, table) = (open(&args.store, nobody(), None).await?, &args.store.table);
    if !args.execute {
        let text = match store.arn().await? {
            Some(arn) => format!("the key store {arn} is there already"),
            None => format!("would make the key store table {table}, on demand; {NOTHING_WRITTEN}"),
        };
        tell(&args.store, &text, &json!({ "table": table, "executed": false }))?;
        return Ok(Exit::Done);
    }
    let (made, arn) = match KeyStoreAdmin::new(store).create_table().await? {
        Created::Made(arn) => (true, arn),
        Created::There(arn) => (false, arn),
    };
    let text = if made {
        format!(
            "made {arn}; it takes DynamoDB some seconds. Switch on point-in-time recovery and deletion protection: without \
             its rows nothing opens that was sealed under them"
        )
    } else {
        format!("the key store {arn} is there already")
    };
    tell(&args.store, &text, &json!({ "table": table, "arn": arn, "made": made, "executed": true }))?;
    Ok(Exit::Done)
}

async fn new_branch_key(args: &NewBranchKeyArgs) -> Result<Exit, Failure> {
    let key = KeyArn::parse(&args.kms_key_arn)?;
    let custom = custom(&args.context)?;
    let id =
        args.branch_key_id.clone().unwrap_or_else(|| Builder::from_random_bytes(rand::random()).into_uuid().into());
    let store = open(&args.store, KeyStoreReaders::Strict(key.clone()), Some(&key)).await?;
    if !args.execute {
        let id = args.branch_key_id.as_deref().unwrap_or("with a random UUID for an id");
        let text = format!(
            "would make the branch key {id} in the key store {} under {}: rows branch:version:UUID, branch:ACTIVE and \
             beacon:ACTIVE; {NOTHING_WRITTEN}",
            args.store.table, args.kms_key_arn
        );
        tell(&args.store, &text, &json!({ "branch_key_id": args.branch_key_id, "executed": false }))?;
        return Ok(Exit::Done);
    }
    let made = KeyStoreAdmin::new(store).new_branch_key(&id, &key, &custom, OffsetDateTime::now_utc()).await;
    let version = made.map_err(|error| unknown_outcome(error, &id))?;
    tell(
        &args.store,
        &format!("made the branch key {id}, version {version}"),
        &json!({ "branch_key_id": id, "version": version.to_string(), "executed": true }),
    )?;
    Ok(Exit::Done)
}

/// Pairs `NAME=VALUE`.
fn custom(pairs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut custom = BTreeMap::new();
    for pair in pairs {
        let wrong = |problem: &str| {
            Failure::new(Exit::Usage, format!("--context {pair}: {problem}"), "write each pair once, as NAME=VALUE")
        };
        let whole = pair.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
        let (name, value) = whole.ok_or_else(|| wrong("no pair"))?;
        if custom.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(wrong("the name was there before"));
        }
    }
    Ok(custom)
}

async fn rotate(args: &RotateArgs) -> Result<Exit, Failure> {
    let key = KeyArn::parse(&args.kms_key_arn)?;
    let store = open(&args.store, KeyStoreReaders::Strict(key.clone()), Some(&key)).await?;
    let id = &args.branch_key_id;
    if !args.execute {
        let rows = store.facts(Some(id)).await?;
        let active = rows.iter().find_map(|row| row.version.as_deref()).ok_or_else(|| no_branch_key(args, id))?;
        let text = format!("would replace {active} of the branch key {id} with a new version; {NOTHING_WRITTEN}");
        tell(&args.store, &text, &json!({ "branch_key_id": id, "active": active, "executed": false }))?;
        return Ok(Exit::Done);
    }
    let rotated = KeyStoreAdmin::new(store).rotate(id, OffsetDateTime::now_utc()).await;
    let version = rotated.map_err(|error| unknown_outcome(error, id))?;
    let text = format!(
        "the branch key {id} has the new version {version}. Writers use it when their caches have expired; then `reseal \
         run` brings items of older versions to it"
    );
    tell(&args.store, &text, &json!({ "branch_key_id": id, "version": version.to_string(), "executed": true }))?;
    Ok(Exit::Done)
}

fn no_branch_key(args: &RotateArgs, id: &str) -> Failure {
    let problem = format!("the key store {} has no branch key {id}", args.store.table);
    Failure::new(Exit::Refused, problem, "`reseal keystore describe` lists those that there are")
}

/// A failure after which it may not be known whether anything was written.
fn unknown_outcome(error: KeyStoreError, id: &str) -> Failure {
    if error.may_pass() {
        let look =
            format!("look with `reseal keystore describe --branch-key-id {id}`: it may have been done; then try again");
        return Failure::new(Exit::Fatal, error, look);
    }
    error.into()
}

async fn rewrap(args: &RewrapArgs) -> Result<Exit, Failure> {
    let to = KeyArn::parse(&args.to_kms_key_arn)?;
    if args.key_store_readers != Some(ReadersArg::Discovery) {
        return Err(Failure::new(
            Exit::Refused,
            "readers that are configured with one KMS key refuse rows under another: the move would take every item that \
             the branch keys protect away from them",
            "configure all readers of the key store to discover the KMS key from its rows, then add --key-store-readers \
             discovery",
        ));
    }
    let mut accounts: BTreeSet<String> = args.account.iter().cloned().collect();
    accounts.insert(to.account().to_owned());
    let filter = DiscoveryFilter { partition: to.partition().to_owned(), accounts: Some(accounts) };
    let store = open(&args.store, KeyStoreReaders::Discovery(filter), Some(&to)).await?;
    let ids: Vec<String> = match &args.branch_key_id {
        Some(id) => vec![id.clone()],
        None => store.branch_key_ids().await?.into_iter().collect(),
    };
    if !args.execute {
        let rows = store.facts(args.branch_key_id.as_deref()).await?;
        let pending = rows.iter().filter(|row| row.kms_arn.as_deref() != Some(to.as_str())).count();
        for RowFacts { branch_key_id, kind, problem, .. } in &rows {
            if let Some(problem) = problem {
                output::note(&format!("the branch key {branch_key_id} would be left alone: its row {kind} {problem}"));
            }
        }
        let text = format!(
            "would move {pending} of {} rows of {} branch keys to {}; {NOTHING_WRITTEN}",
            rows.len(),
            ids.len(),
            to.as_str()
        );
        let answer =
            json!({ "branch_keys": ids.len(), "rows": rows.len(), "rows_to_move": pending, "executed": false });
        tell(&args.store, &text, &answer)?;
        return Ok(Exit::Done);
    }
    let admin = KeyStoreAdmin::new(store);
    let (mut moved, mut rows, mut failed) = (0_usize, 0_usize, 0_usize);
    for id in &ids {
        match patiently(&admin, id, &to).await {
            Ok(Moved::Rows(count)) => (moved, rows) = (moved + 1, rows + count),
            Ok(Moved::There) => {}
            // What stands against one branch key does not stand against the others; what stands against all, does.
            Err(error) if ids.len() > 1 && error.concerns_one() => {
                failed += 1;
                output::note(&format!("{error}"));
            }
            Err(error) if moved == 0 => return Err(error.into()),
            Err(error) => {
                let done = format!("{moved} branch keys were moved before; the same command goes on from there");
                return Err(Failure::new(Exit::Fatal, error, done));
            }
        }
    }
    let there = ids.len() - moved - failed;
    let text = format!(
        "moved {rows} rows of {moved} branch keys to {}; {there} were there already, {failed} failed; {} KMS requests, and \
         no item was touched",
        to.as_str(),
        admin.store().kms_requests()
    );
    let answer = json!({
        "branch_keys_moved": moved, "rows_moved": rows, "branch_keys_there": there, "branch_keys_failed": failed,
        "kms_requests": admin.store().kms_requests(), "executed": true,
    });
    tell(&args.store, &text, &answer)?;
    Ok(if failed == 0 { Exit::Done } else { Exit::FailedItems })
}

/// Moves a branch key, again after a pause where a service asks for one: what was done already is not done again.
async fn patiently(admin: &KeyStoreAdmin, id: &str, to: &KeyArn) -> Result<Moved, KeyStoreError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match admin.rewrap(id, to).await {
            Err(error) if error.may_pass() => {}
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    admin.rewrap(id, to).await
}

async fn describe(args: &KeyStoreArgs, id: Option<&str>) -> Result<Exit, Failure> {
    let rows = open(args, nobody(), None).await?.facts(id).await?;
    if args.json {
        for row in &rows {
            output::json(row)?;
        }
        return Ok(Exit::Done);
    }
    for RowFacts { branch_key_id, kind, version, kms_arn, create_time, problem } in &rows {
        let mut parts = vec![branch_key_id.clone(), kind.clone()];
        parts.extend(version.iter().map(|version| format!("= {version}")));
        parts.extend(create_time.clone());
        parts.extend(kms_arn.clone());
        parts.extend(problem.iter().map(|problem| format!("({problem})")));
        output::line(parts.join("  "))?;
    }
    output::line(format!("{} rows; nothing of them is authenticated until KMS unwraps them", rows.len()))?;
    Ok(Exit::Done)
}
