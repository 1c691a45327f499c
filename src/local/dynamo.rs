//! DynamoDB and DynamoDB Streams, embedded: dynoxide in this process.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use dynoxide::Database;

use super::LocalError;

/// Opens the database, in memory or in a file that only this user may read.
pub(super) fn open(file: Option<&Path>) -> Result<Database, LocalError> {
    let failed = |problem: String| LocalError::Database { problem };
    let Some(path) = file else { return Database::memory().map_err(|error| failed(error.to_string())) };
    // SQLite gives its companion files the permissions of the database.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| LocalError::Io { path: path.to_owned(), source })?;
    let text = path.to_str().ok_or_else(|| failed(format!("the path {} is not UTF-8", path.display())))?;
    let database = Database::new(text).map_err(|error| failed(error.to_string()))?;
    index_stream(path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
    Ok(database)
}

/// Each write to a table with a stream looks for the greatest sequence number. dynoxide 3.2.0 has no index for that, so
/// that writes slow down with every record kept; with this one they do not. In memory nobody else can add it: there, a
/// table with a stream slows down after some ten thousand writes.
fn index_stream(path: &Path) -> Result<(), rusqlite::Error> {
    rusqlite::Connection::open(path)?.execute_batch(
        "CREATE INDEX IF NOT EXISTS reseal_stream_sequence
         ON _stream_records(table_name, CAST(sequence_number AS INTEGER))",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_sequence_number_is_found_by_index() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dynamodb.sqlite");
        for _ in ["new", "again"] {
            drop(open(Some(&path)).unwrap());
        }
        // The statement of dynoxide 3.2.0.
        let plan: String = rusqlite::Connection::open(&path)
            .unwrap()
            .query_row(
                "EXPLAIN QUERY PLAN SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1
                 FROM _stream_records WHERE table_name = ?1",
                ["t"],
                |row| row.get("detail"),
            )
            .unwrap();
        assert!(plan.contains("reseal_stream_sequence"), "{plan}");
    }
}
