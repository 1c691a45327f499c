#!/usr/bin/env bash
# Keys from AWS Secrets Manager: what is sealed with a key that Secrets Manager keeps opens with the same key in a file,
# and the other way round; secrets that will not do are refused, each with its remedy. Secrets Manager is that of moto.
#
#   scripts/secrets.sh
#
# Needs Rust, and Python 3 with venv. moto is installed into ${RESEAL_CACHE:-~/.cache/reseal}/stand-in-moto. RESEAL_BIN
# names a reseal that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/stand-in.bash
[ $# = 0 ] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }

if [ -z "${RESEAL_BIN:-}" ]; then
    cargo build --quiet --locked
    RESEAL_BIN=${CARGO_TARGET_DIR:-target}/debug/reseal
fi
reseal=$(realpath "$RESEAL_BIN")
fixtures=$PWD/tests/fixtures

work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
serve moto "$work/moto.log"
export AWS_ENDPOINT_URL_SECRETS_MANAGER=$endpoint AWS_REGION=eu-west-1
export AWS_ACCESS_KEY_ID=stand-in AWS_SECRET_ACCESS_KEY=stand-in
unset AWS_PROFILE AWS_SESSION_TOKEN

# Secrets NAME, and the same keys in files NAME.key.
"$python" - "$work" "$fixtures" >"$work/arns" <<'END'
import base64, os, pathlib, sys
import boto3

work, fixtures = map(pathlib.Path, sys.argv[1:])
endpoint = os.environ["AWS_ENDPOINT_URL_SECRETS_MANAGER"]
client = boto3.client("secretsmanager", endpoint_url=endpoint, region_name=os.environ["AWS_REGION"])
for length in (16, 24, 32):
    key = os.urandom(length)
    (work / f"text{length}.key").write_text(base64.b64encode(key).decode() + "\n")
    client.create_secret(Name=f"text{length}", SecretString=base64.b64encode(key).decode())
    (work / f"binary{length}.key").write_text(base64.b64encode(key).decode() + "\n")
    arn = client.create_secret(Name=f"binary{length}", SecretBinary=key)["ARN"]
    print(f"binary{length} {arn}")
pair = (fixtures / "rsa2048-for-tests-only.private.pem").read_text()
(work / "pair.key").write_text(pair)
client.create_secret(Name="pair", SecretString=pair)
client.create_secret(Name="long", SecretBinary=bytes(33))
client.create_secret(Name="words", SecretString="correct horse battery staple")
client.create_secret(Name="deleted", SecretBinary=bytes(32))
client.delete_secret(SecretId="deleted")
END

# job TYPE KEY: a job file with a keyring of this type and key.
job() {
    cat <<END
version = 1
[table]
name = "customers"
partition_key = "id"
[attributes]
id = "SIGN_ONLY"
email = "ENCRYPT_AND_SIGN"
[target]
format = "dbesdk"
keyring = { type = "$1", namespace = "acme", name = "k1", $2 }
END
}

checks=0
failed=0
# told NAME STATUS: counts a check.
told() {
    checks=$((checks + 1))
    if [ "$2" != 0 ]; then
        failed=$((failed + 1))
        echo "failed: $1"
    fi
}

plain='{"Item":{"id":{"S":"a"},"email":{"S":"ada@example.com"}}}'
# there_and_back TYPE SECRET FILE: sealed with either, opened with the other.
there_and_back() {
    local other='' more=''
    [ "$1" = raw-aes ] || more=', padding = "oaep-sha256"'
    job "$1" "key_secret = \"$2\"$more" >"$work/secret.toml"
    job "$1" "key_file = \"$3\"$more" >"$work/file.toml"
    for sealer in secret file; do
        [ $sealer = secret ] && other=file || other=secret
        echo "$plain" | "$reseal" item seal --job "$work/$sealer.toml" >"$work/sealed" &&
            "$reseal" item open --job "$work/$other.toml" <"$work/sealed" | grep -q ada@example.com
        told "$1 $2: sealed by $sealer" $?
    done
}

# refused TYPE SECRET EXIT WORDS
refused() {
    local status=0
    job "$1" "key_secret = \"$2\"" >"$work/secret.toml"
    echo "$plain" | "$reseal" item seal --job "$work/secret.toml" >"$work/out" 2>"$work/err" || status=$?
    if [ $status = "$3" ] && [ ! -s "$work/out" ] && grep -qF "$4" "$work/err"; then
        told "$1 $2" 0
    else
        sed 's/^/    /' "$work/err"
        told "$1 $2: exit $status" 1
    fi
}

set +e
for length in 16 24 32; do
    there_and_back raw-aes "text$length" "text$length.key"
    there_and_back raw-aes "$(sed -n "s/^binary$length //p" "$work/arns")" "binary$length.key"
done
there_and_back raw-rsa pair pair.key
refused raw-aes absent 3 'check name and Region: it was looked for in eu-west-1'
refused raw-aes deleted 3 'if the secret is scheduled for deletion, restore it'
refused raw-aes long 2 'secret long: not an AES key: one has 16, 24 or 32 bytes'
refused raw-aes words 2 'secret words: not an AES key: one has 16, 24 or 32 bytes'
refused raw-rsa 'words", padding = "pkcs1' 2 'secret words: it is not PEM'
echo "$((checks - failed)) passed, $failed failed"
[ $failed = 0 ]
