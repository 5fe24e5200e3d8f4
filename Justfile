# `just` without arguments lists the commands. A command installs the tools it lacks into .tools/.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

export PATH := justfile_directory() / ".tools/bin" + ":" + env("PATH")

# What the tests note for `just coverage`.
coverage_notes := justfile_directory() / "target/coverage"

# Tests that use the database that ZIM_TEST_DATABASE names. Those of the server name theirs themselves.
on_a_database := "package(zim-integration-tests)"

# Those of them that open no database, or always SQLite: planted faults, which are caught by the same checks on every database. And
# those of handshakes, of lost packets and of slow HTTP clients, in which the database has no part.
same_on_each := "binary(model) | binary(layout) | binary(docs) | binary(capacity) | binary(decoders) | (binary(api) & test(/^(coverage|measured|owner|seen)::/)) | (binary(fault) & (test(/^campaign::.*_caught$/) | test(/^(storm|lossy|slow_http)::/)))"

# The server's own tests on PostgreSQL.
server_on_postgres := "package(zim-server) & test(/postgres/)"

# Tests that need other programs: `tcpdump`, `ffmpeg`, `strace`.
with_other_programs := "test(/capture/) | test(/media_film/) | test(/power_cut/)"

# Tests that take long and show the same on every database, and one that expects a single node: each node gets a token of its own.
once := "test(/ten_thousand_conversations/) | test(/fcm_gets_a_token_for_the_service_account_once/)"

# Lists the commands.
_list:
    @just --list --unsorted

# Starts a server with its data in ./zim-data.
run *args:
    cargo run --locked --bin zim-server -- "$@"

# The command line: `just zim login ann`, `just zim send bob "hi"`.
zim *args:
    @cargo run --quiet --locked --bin zim -- "$@"

# Starts a server in a temporary folder and lets two users chat.
demo *args:
    cargo build --locked --bin zim-server --bin zim
    cargo run --quiet --locked --bin zim -- demo "$@"

# All tests, on SQLite, then on PostgreSQL (ZIM_TEST_POSTGRES, or a private cluster), then on two nodes (ZIM_TEST_NATS, or a
# private server). Some of them need other programs: see test-capture, test-films and test-power-cut. With a name, it runs the tests
# that have it; where none has, it goes on.
test *args: test-docs (test-capture args) (test-films args) (test-power-cut args) && (test-s3 args) (test-postgres args) (test-nodes args)
    # Some of the tests cover less than all of them.
    if [ $# = 0 ]; then {{ just_executable() }} coverage; else {{ just_executable() }} test-sqlite "$@"; fi

# All tests on SQLite; then compares what they were told and answered with the tables of the reference (docs/testing.md).
coverage:
    rm -rf "{{ coverage_notes }}"
    ZIM_TEST_COVERAGE="{{ coverage_notes }}" {{ just_executable() }} test-sqlite
    ZIM_TEST_COVERAGE="{{ coverage_notes }}" cargo nextest run --locked --workspace --run-ignored only \
        -E 'test(=measured::all_that_the_reference_has_was_told_and_answered)'

# All tests on SQLite and those without a database, without those that need other programs than curl and jq.
test-sqlite *args: (_tools "cargo-nextest")
    ZIM_TEST_DATABASE=sqlite cargo nextest run --locked --workspace -E 'not (binary(nodes) | test(/^cluster::/) | ({{ server_on_postgres }}) | {{ with_other_programs }})' {{ args }}

# The tests of films, with ffmpeg.
test-films *args: (_tools "cargo-nextest")
    ZIM_TEST_DATABASE=sqlite cargo nextest run --locked --workspace -E 'package(zim-integration-tests) & test(/media_film/)' {{ if args == "" { "" } else { "--no-tests pass " + args } }}

# The tests that capture packets, with tcpdump. With the whole workspace, or its crates would be built a second time with fewer features. It needs root, or once `sudo setcap cap_net_raw+ep "$(command -v tcpdump)"`.
test-capture *args: (_tools "cargo-nextest")
    cargo nextest run --locked --workspace -E 'package(zim-integration-tests) & test(/capture/)' {{ if args == "" { "" } else { "--no-tests pass " + args } }}

# The tests that cut the power of a server on SQLite, with strace.
test-power-cut *args: (_tools "cargo-nextest")
    cargo nextest run --locked --workspace -E 'package(zim-integration-tests) & test(/power_cut/)' {{ if args == "" { "" } else { "--no-tests pass " + args } }}

# The tests that use a database, on PostgreSQL. What is the same on each database runs on SQLite only.
test-postgres *args: (_tools "cargo-nextest")
    # With the whole workspace, or its crates would be built a second time with fewer features.
    cargo build --quiet --locked --workspace --bin with-postgres
    ZIM_TEST_DATABASE=postgres "${CARGO_TARGET_DIR:-target}/debug/with-postgres" \
        cargo nextest run --locked --workspace -E '({{ server_on_postgres }}) | ({{ on_a_database }} & not (binary(nodes) | {{ same_on_each }} | {{ with_other_programs }} | {{ once }}))' {{ if args == "" { "" } else { "--no-tests pass " + args } }}

# What happens between nodes, the benchmark of two, and the tests of the API and of journeys on two nodes that share a database.
test-nodes *args: (_tools "cargo-nextest")
    cargo build --quiet --locked --workspace --bin with-postgres
    ZIM_TEST_DATABASE=postgres ZIM_TEST_NODES=2 "${CARGO_TARGET_DIR:-target}/debug/with-postgres" \
        cargo nextest run --locked --workspace -E '(binary(nodes) | binary(api) | binary(journey) | test(/^cluster::/)) & not ({{ same_on_each }} | {{ with_other_programs }} | {{ once }})' {{ if args == "" { "" } else { "--no-tests pass " + args } }}

# The tests of files, with the files in an object store. Those that use one in every run are left out.
test-s3 *args: (_tools "cargo-nextest")
    ZIM_TEST_MEDIA=s3 cargo nextest run --locked --workspace -E 'package(zim-integration-tests) & (test(/media/) | test(/log_upload/)) & not test(/media_s3/)' {{ if args == "" { "" } else { "--no-tests pass " + args } }}

# The examples in the documentation of the SDK and the protocol.
test-docs:
    cargo test --quiet --locked --doc --workspace

# Everything that CI checks besides the tests. There is no other list.
check: (_tools "cargo-deny" "typos" "mdbook")
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo clippy --locked -p zim-protocol -p zim-client-sdk -- -D warnings
    cargo clippy --locked -p zim-engine -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
    cargo deny --all-features check --hide-inclusion-graph bans licenses sources
    typos
    mdbook build docs

# Applies the fixes that need no judgement: format, spelling, machine-applicable lints.
fix: (_tools "typos")
    cargo clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all
    typos --write-changes

# Throughput and latency of messages between pairs of users, with a release build on this machine.
bench *args:
    cargo build --release --locked --bin zim-server --bin zim
    cargo run --release --quiet --locked --bin zim -- bench peer "$@"

# Checks the unit, the settings and the compose file of docs/operations/deploy by running them. It needs containers; `--debian`
# makes their images of Debian's packages.
deploy-check *args:
    cargo build --release --locked --bin zim-server --bin zim
    docs/operations/deploy/check "$@" "${CARGO_TARGET_DIR:-target}/release"

# Examples: `just rolling-upgrade HEAD~50`, `just rolling-upgrade v1.0 --seconds 60 --folder target/upgrade`.
# A rolling upgrade from a revision of git to the present build, while users write to each other; checks that no message is lost.
rolling-upgrade old *args:
    .ci/rolling-upgrade "$@"

# What a deployment of several nodes reaches, calculated from one server: measures one and two nodes with release builds (PostgreSQL
# and NATS must be installed, or name them: `--database`, `--bus`), compares the calculation with the two, and prints what it says
# about large deployments. Besides the build it takes about three minutes. The measurement is kept in FILE.
growth file="target/two-nodes.json" *args:
    cargo build --release --locked --bin zim-server --bin zim
    mkdir -p "$(dirname "$1")"
    cargo run --release --quiet --locked --bin zim -- bench cluster --costs --json "${@:2}" >"$1"
    cargo run --release --quiet --locked -p zim-integration-tests --example capacity -- "$1"

# Builds the book, including its generated reference, into docs/book.
docs: (_tools "cargo-nextest" "mdbook")
    UPDATE=1 cargo nextest run --locked -p zim-protocol --test contract pages
    mdbook build docs

# Draws the picture of the README, docs/terminal.svg, from what two programs write to their terminals (needs Python 3).
picture:
    cargo build --locked --bin zim-server --bin zim
    .ci/picture "${CARGO_TARGET_DIR:-target}/debug"

# No sanitizer: our code has no `unsafe`, and the fuzzer runs several times as many inputs without one.
_fuzz := "RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none"

# Runs a fuzz target for some seconds (needs a C++ compiler): config, frame, http, json, protobuf, sync or token.
fuzz target="frame" seconds="60": (_tools "cargo-fuzz")
    mkdir -p fuzz/found/{{ target }}
    {{ _fuzz }} {{ target }} fuzz/found/{{ target }} fuzz/corpus/{{ target }} -- -max_total_time={{ seconds }} \
        -rss_limit_mb=2048 -timeout=10 $(ls fuzz/dict/{{ target }}.dict 2>/dev/null | sed 's/^/-dict=/')

# Adds to a target's corpus the inputs of `just fuzz` that reach new code.
fuzz-keep target: (_tools "cargo-fuzz")
    {{ _fuzz }} {{ target }} fuzz/corpus/{{ target }} fuzz/found/{{ target }} -- -merge=1 -use_counters=0

# Examples: `just fault --runs 100`, `just fault --seed 7`, `just fault --runs 1000 --database both --page FILE`, `just fault --runs 300 --nodes 2`, `just fault --long --runs 20`.
# Seeded runs against a real server with killed processes, full disks and wrong clocks; checks that nothing is lost.
fault *args:
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo build --quiet --release --locked -p zim-integration-tests --bins
    ./target/release/fault "$@"

# Examples: `just mutants`, `just mutants --seed 2`, `just mutants --in-diff main`, `just mutants --known`. A mutant takes a minute or more; what was tried is not tried again.
# Makes the code wrong, one place at a time, and names what no test notices (docs/testing.md). It needs Python 3.
mutants *args: (_tools "cargo-mutants" "cargo-nextest")
    .ci/mutants "$@"

# A day of life: users of the SDK live with a release build of the server, and no event is lost (docs/operations/day.md). Examples:
# `just day`, `just day 5 100 7` (minutes, users, seed), `just day 20 500 1 --page docs/operations`.
day *args:
    cargo build --release --locked --bin zim-server
    cargo build --release --locked -p zim-integration-tests --bin day
    "${CARGO_TARGET_DIR:-target}/release/day" "$@"

_tools *names:
    @.ci/tools {{ names }}
