#!/usr/bin/env bash
# Packages the job as an AWS Lambda function: target/reseal-lambda.zip for provided.al2023 on x86-64 (docs/LAMBDA.md).
#
#   scripts/lambda.sh [JOB.toml]
#
# Builds `reseal-lambda` against glibc 2.34, which is the one of provided.al2023, whatever this machine has; demands that
# it asks for no later one, that it starts, and that the zip is below 15 MB; checks the CloudFormation template. With a
# job file the zip holds it as job.toml, otherwise the function needs RESEAL_JOB.
#
# Needs Rust, make, and Python 3 with venv. Zig, which is the C compiler and linker, cargo-zigbuild and cfn-lint are
# installed into ${RESEAL_CACHE:-~/.cache/reseal}/lambda-venv, the build is kept in .../lambda-target, outside the clone.
# The first build takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

glibc=2.34
most=15000000
cache=${RESEAL_CACHE:-$HOME/.cache/reseal}
venv=$cache/lambda-venv
zip=$PWD/target/reseal-lambda.zip
job=${1:-}
if [ $# -gt 1 ] || { [ -n "$job" ] && [ ! -f "$job" ]; }; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 2
fi

if ! { "$venv/bin/python" -m ziglang version && "$venv/bin/cargo-zigbuild" -V && "$venv/bin/cfn-lint" -v; } >/dev/null 2>&1; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet ziglang cargo-zigbuild cfn-lint
fi
target=x86_64-unknown-linux-gnu
! command -v rustup >/dev/null || rustup --quiet target add $target
PATH=$venv/bin:$PATH CARGO_TARGET_DIR=$cache/lambda-target CARGO_PROFILE_RELEASE_STRIP=symbols \
    cargo zigbuild --locked --release --no-default-features --features lambda --bin reseal-lambda --target $target.$glibc
binary=$cache/lambda-target/$target/release/reseal-lambda

newest=$(grep -aohE 'GLIBC_[0-9]+(\.[0-9]+)+' "$binary" | sort -uV | tail -1)
if [ "$(printf '%s\n' "$newest" "GLIBC_$glibc" | sort -V | tail -1)" != "GLIBC_$glibc" ]; then
    echo "the binary asks for $newest, and provided.al2023 has $glibc" >&2
    exit 1
fi
if [ "$(uname -sm)" = 'Linux x86_64' ]; then
    said=$(env -u AWS_LAMBDA_RUNTIME_API "$binary" 2>&1 || true)
    case $said in
        *'started by AWS Lambda only'*) ;;
        *) printf 'the binary does not start: %s\n' "$said" >&2; exit 1 ;;
    esac
fi

package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
install -m 755 "$binary" "$package/bootstrap"
[ -z "$job" ] || install -m 644 "$job" "$package/job.toml"
mkdir -p target
rm -f "$zip"
(cd "$package" && "$venv/bin/python" -m zipfile -c "$zip" ./*)
bytes=$(wc -c <"$zip")
if [ "$bytes" -ge $most ]; then
    echo "$zip has $bytes bytes, and $most are too many" >&2
    exit 1
fi
"$venv/bin/cfn-lint" docs/lambda.yaml
printf '%s: %d bytes, needs %s; docs/lambda.yaml passes cfn-lint\n' "${zip#"$PWD"/}" "$bytes" "$newest"
