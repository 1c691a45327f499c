//! What the service says of a table.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    KeySchemaElement, KeyType, MultiRegionConsistency, PointInTimeRecoveryStatus, ProjectionType, TableDescription,
    TimeToLiveStatus,
};

use super::call_error;
use crate::aws::AwsConfig;
use crate::store::facts::{
    Capacity, IndexFacts, IndexKind, KeyAttribute, Known, Projection, Replica, Replication, StreamFacts, TableFacts,
    TtlFacts,
};
use crate::store::{StoreClass, StoreError};

const DESCRIBE: &str = "DescribeTable";

/// Asks for everything that a plan needs to know of the table of this name, or ARN.
///
/// # Errors
/// [`StoreError`] when the table cannot be described. That time-to-live or recovery cannot be told is no error.
pub async fn describe(config: &AwsConfig, table: &str) -> Result<TableFacts, StoreError> {
    let client = Client::new(config.sdk());
    let described = client.describe_table().table_name(table).send().await;
    let description = described.map_err(|error| call_error(DESCRIBE, &error))?.table.ok_or_else(|| StoreError {
        operation: DESCRIBE,
        class: StoreClass::Fatal,
        problem: "the service described no table; check the endpoint".to_owned(),
    })?;
    let ttl = time_to_live(&client, table).await?;
    let recovery = point_in_time_recovery(&client, table).await?;
    Ok(facts(description, ttl, recovery))
}

async fn time_to_live(client: &Client, table: &str) -> Result<Known<Option<TtlFacts>>, StoreError> {
    let result = client.describe_time_to_live().table_name(table).send().await;
    let output = match result.map_err(|error| call_error("DescribeTimeToLive", &error)) {
        Ok(output) => output,
        Err(error) => return untold(error),
    };
    let ttl = output.time_to_live_description.and_then(|ttl| {
        let status = ttl.time_to_live_status.filter(|status| *status != TimeToLiveStatus::Disabled)?;
        Some(TtlFacts { attribute: ttl.attribute_name?, status: status.as_str().to_owned() })
    });
    Ok(Known::Known(ttl))
}

async fn point_in_time_recovery(client: &Client, table: &str) -> Result<Known<bool>, StoreError> {
    let result = client.describe_continuous_backups().table_name(table).send().await;
    let output = match result.map_err(|error| call_error("DescribeContinuousBackups", &error)) {
        Ok(output) => output,
        Err(error) => return untold(error),
    };
    // The status of "continuous backups" itself is always ENABLED and says nothing.
    let status = output
        .continuous_backups_description
        .and_then(|backups| backups.point_in_time_recovery_description)
        .and_then(|recovery| recovery.point_in_time_recovery_status);
    Ok(Known::Known(status == Some(PointInTimeRecoveryStatus::Enabled)))
}

/// Stand-ins lack the operation and callers the permission: both are no reason to stop. A service that does not answer
/// is.
fn untold<T>(error: StoreError) -> Result<Known<T>, StoreError> {
    match error.class {
        StoreClass::Denied | StoreClass::Fatal | StoreClass::Item => Ok(Known::Unknown(error.to_string())),
        _ => Err(error),
    }
}

fn facts(table: TableDescription, ttl: Known<Option<TtlFacts>>, recovery: Known<bool>) -> TableFacts {
    let key_types = table.attribute_definitions.iter().flatten();
    let key_types = key_types.map(|key| (key.attribute_name.clone(), key.attribute_type.as_str().to_owned())).collect();
    let mut keys: Vec<KeyAttribute> = table.key_schema.iter().flatten().map(key_attribute).collect();
    keys.sort_by_key(|key| !key.partition);
    let replicas = table.replicas.iter().flatten().filter_map(|replica| {
        let status = replica.replica_status.as_ref().map(|status| status.as_str().to_owned());
        Some(Replica { region: replica.region_name.clone()?, status })
    });
    let replicas: Vec<Replica> = replicas.collect();
    let replication = match table.multi_region_consistency {
        Some(MultiRegionConsistency::Strong) => Some(Replication::Strong),
        // Global tables that are older than the setting do not carry it.
        _ => (!replicas.is_empty()).then_some(Replication::Eventual),
    };
    TableFacts {
        indexes: indexes(&table),
        capacity: capacity(&table),
        stream: stream(&table),
        arn: table.table_arn.unwrap_or_default(),
        name: table.table_name.unwrap_or_default(),
        id: table.table_id,
        status: table.table_status.map_or_else(String::new, |status| status.as_str().to_owned()),
        keys,
        key_types,
        items: unsigned(table.item_count),
        bytes: unsigned(table.table_size_bytes),
        ttl,
        replicas,
        replication,
        point_in_time_recovery: recovery,
        deletion_protection: table.deletion_protection_enabled.unwrap_or(false),
    }
}

fn indexes(table: &TableDescription) -> Vec<IndexFacts> {
    let global = table.global_secondary_indexes.iter().flatten().map(|index| IndexFacts {
        name: index.index_name.clone().unwrap_or_default(),
        kind: IndexKind::Global,
        keys: key_names(index.key_schema.as_deref()),
        projection: projection(index.projection.as_ref()),
    });
    let local = table.local_secondary_indexes.iter().flatten().map(|index| IndexFacts {
        name: index.index_name.clone().unwrap_or_default(),
        kind: IndexKind::Local,
        keys: key_names(index.key_schema.as_deref()),
        projection: projection(index.projection.as_ref()),
    });
    let vector = table.vector_indexes.iter().flatten().map(|index| {
        let vector = index.vector_attribute.iter().map(|attribute| attribute.attribute_name.clone());
        let filters = index.search_schema.iter().flatten().map(|element| element.attribute_name.clone());
        IndexFacts {
            name: index.index_name.clone().unwrap_or_default(),
            kind: IndexKind::Vector,
            keys: vector.chain(filters).collect(),
            projection: projection(index.projection.as_ref()),
        }
    });
    global.chain(local).chain(vector).collect()
}

fn key_attribute(element: &KeySchemaElement) -> KeyAttribute {
    KeyAttribute { name: element.attribute_name.clone(), partition: element.key_type == KeyType::Hash }
}

fn key_names(schema: Option<&[KeySchemaElement]>) -> Vec<String> {
    schema.unwrap_or_default().iter().map(|element| element.attribute_name.clone()).collect()
}

/// What is not known to be less is taken for everything: the projection with the most consequences.
fn projection(projection: Option<&aws_sdk_dynamodb::types::Projection>) -> Projection {
    match projection.map(|projection| (projection.projection_type.as_ref(), &projection.non_key_attributes)) {
        Some((Some(ProjectionType::KeysOnly), _)) => Projection::Keys,
        Some((Some(ProjectionType::Include), names)) => Projection::Include(names.clone().unwrap_or_default()),
        _ => Projection::All,
    }
}

fn stream(table: &TableDescription) -> Option<StreamFacts> {
    let specification = table.stream_specification.as_ref();
    let (enabled, arn) = (specification.is_some_and(|stream| stream.stream_enabled), table.latest_stream_arn.clone());
    let view = specification.and_then(|stream| stream.stream_view_type.as_ref());
    let view = view.map(|view| view.as_str().to_owned());
    (enabled || arn.is_some()).then_some(StreamFacts { enabled, view, arn })
}

fn capacity(table: &TableDescription) -> Capacity {
    let provisioned = table.provisioned_throughput.as_ref();
    let provisioned =
        provisioned.map_or((0, 0), |units| (unsigned(units.read_capacity_units), unsigned(units.write_capacity_units)));
    // Tables on demand describe themselves as provisioned with 0 units; the summary may be missing.
    if let (read @ 1.., write @ 1..) = provisioned {
        return Capacity::Provisioned { read, write };
    }
    let bound = |units: Option<i64>| units.and_then(|units| u64::try_from(units).ok());
    let bounds = table.on_demand_throughput.as_ref();
    Capacity::OnDemand {
        read_max: bounds.and_then(|bounds| bound(bounds.max_read_request_units)),
        write_max: bounds.and_then(|bounds| bound(bounds.max_write_request_units)),
    }
}

fn unsigned(count: Option<i64>) -> u64 {
    count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}
