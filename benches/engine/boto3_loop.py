"""A boto3 loop that encrypts every item on the client: the Python side of scripts/bench.sh.

    boto3_loop.py ENDPOINT TABLE batch|single ENCRYPTED

It scans the table, encrypts the attributes named (separated by commas) with AES-256-GCM under one key, the item's key as
additional data, and writes each item back on the condition that it is still what was read: 25 statements a request, or
one UpdateItem each. Prints items, CPU seconds and seconds as JSON.
"""

import json
import os
import sys
import time

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BATCH = 25
KEY = "pk"


def sealed(cipher, item, encrypted):
    """The attributes to set: each encrypted under a nonce of its own."""
    aad = item[KEY]["S"].encode()
    new = {}
    for name in encrypted:
        nonce = os.urandom(12)
        new[name] = {"B": nonce + cipher.encrypt(nonce, item[name]["S"].encode(), aad)}
    return new


def statements(table, cipher, items, encrypted):
    for item in items:
        new = sealed(cipher, item, encrypted)
        others = [name for name in item if name != KEY]
        text = 'UPDATE "%s"%s WHERE "%s"=?%s' % (
            table,
            "".join(f' SET "{name}"=?' for name in new),
            KEY,
            "".join(f' AND "{name}"=?' for name in others),
        )
        values = [*new.values(), item[KEY], *(item[name] for name in others)]
        yield {"Statement": text, "Parameters": values, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def update(client, table, cipher, item, encrypted):
    new = sealed(cipher, item, encrypted)
    others = [name for name in item if name != KEY]
    names = {f"#{i}": name for i, name in enumerate(others)}
    alias = {name: short for short, name in names.items()}
    values = {f":o{i}": item[name] for i, name in enumerate(others)}
    values |= {f":n{i}": value for i, value in enumerate(new.values())}
    condition = " AND ".join(f"#{i}=:o{i}" for i in range(len(others)))
    client.update_item(
        TableName=table,
        Key={KEY: item[KEY]},
        UpdateExpression="SET " + ",".join(f"{alias[name]}=:n{i}" for i, name in enumerate(new)),
        ConditionExpression=f"attribute_exists({KEY}) AND {condition}",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues=values,
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
        ReturnConsumedCapacity="TOTAL",
    )


def main():
    endpoint, table, way, encrypted = sys.argv[1:]
    encrypted = encrypted.split(",")
    client = boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="stand-in",
        aws_secret_access_key="stand-in",
        config=Config(retries={"max_attempts": 0}),
    )
    cipher = AESGCM(AESGCM.generate_key(256))
    count, cpu, wall = 0, time.process_time(), time.perf_counter()
    paginator = client.get_paginator("scan")
    for page in paginator.paginate(TableName=table, ConsistentRead=True, ReturnConsumedCapacity="TOTAL"):
        items = page["Items"]
        count += len(items)
        if way == "single":
            for item in items:
                update(client, table, cipher, item, encrypted)
            continue
        for at in range(0, len(items), BATCH):
            batch = list(statements(table, cipher, items[at : at + BATCH], encrypted))
            answer = client.batch_execute_statement(Statements=batch, ReturnConsumedCapacity="TOTAL")
            if any("Error" in response for response in answer["Responses"]):
                sys.exit("a statement was refused")
    cost = {"items": count, "cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    print(json.dumps(cost))


main()
