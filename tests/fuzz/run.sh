#!/usr/bin/env bash
# Fuzzes the parsers of what others send: run.sh [SECONDS [TARGET...]], a minute each by default. Needs a C++ compiler, and
# neither cargo-fuzz nor another toolchain. What is found along the way is kept in corpus/, what breaks something in artifacts/.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(dns change csr tsig haproxy)
triple=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz"
# Coverage as cargo-fuzz asks for it; addresses are not watched, for nothing here is unsafe. The compiler calls this unstable.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Ccodegen-units=1"
# The versions that the workspace has, and what is needed here beside them.
cp ../../Cargo.lock .
cargo build --release --target "$triple" --bins
bin=$CARGO_TARGET_DIR/$triple/release
for target in "${targets[@]}"; do
    echo "== $target"
    mkdir -p "artifacts/$target" "corpus/$target"
    "$bin/$target" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="artifacts/$target/" "corpus/$target"
done
