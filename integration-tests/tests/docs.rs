//! Checks the documentation: it lists every setting with its default, and every link has a target.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zim_server::config::{Args, Config};

const PAGE: &str = include_str!("../../docs/operations/configuration.md");

/// Whether the first program of a page is the example, to the letter, without its comment and its lints.
fn shows(page: &str, example: &str, begin: &str) {
    let program = &example[example.find(begin).unwrap()..];
    let is_lint = |line: &&str| line.starts_with("#[expect(clippy::");
    let program: Vec<&str> = program.lines().filter(|line| !is_lint(line)).collect();
    let (_, shown) = page.split_once("```rust,no_run\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert_eq!(shown.lines().collect::<Vec<_>>(), program);
}

#[test]
fn the_pages_show_the_examples() {
    let bot = include_str!("../../client-sdk/examples/bot.rs");
    shows(include_str!("../../docs/guide/bots.md"), bot, "use zim_client_sdk");
    let two_people = include_str!("../../client-sdk/examples/two_people.rs");
    shows(include_str!("../../docs/guide/getting-started.md"), two_people, "use tokio");
}

/// What a page shows compiles, and where it says so it runs (`zim_integration_tests::guide`).
#[test]
fn every_page_of_the_guide_with_code_is_tested() {
    let tested = include_str!("../src/lib.rs");
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("docs/guide")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!text.contains("```rust,ignore"), "{name} has code that nothing compiles");
        if text.contains("```rust") {
            count += 1;
            let line = format!("#[doc = include_str!(\"../../docs/guide/{name}\")]");
            assert!(tested.contains(&line), "integration-tests/src/lib.rs does not include {name}");
        }
    }
    assert!(count >= 14, "{count}");
}

/// The public methods in a source of the SDK that can fail, and whose documentation does not say with which errors.
fn without_errors(source: &str) -> Vec<String> {
    let (mut found, mut has_errors) = (Vec::new(), false);
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let method = ["pub fn ", "pub async fn "].into_iter().find_map(|start| line.strip_prefix(start));
        has_errors = !line.is_empty() && (has_errors || line == "/// # Errors");
        let Some(method) = method else { continue };
        let mut signature = line.to_owned();
        while !signature.ends_with('{') {
            signature = format!("{signature} {}", lines.next().unwrap());
        }
        let result = signature.split_once("->").map_or("", |(_, result)| result);
        let result = result.split_once(" where ").map_or(result, |(result, _)| result);
        if result.contains(", Error>") && !has_errors {
            found.push(method.split(['(', '<']).next().unwrap().to_owned());
        }
        has_errors = false;
    }
    found
}

#[test]
fn every_method_of_the_sdk_says_with_which_errors_it_fails() {
    let source = [
        "/// # Errors",
        "/// 6000001: x.",
        "#[must_use]",
        "pub fn one(&self) -> Result<(), Error> {",
        "}",
        "",
        "/// Text.",
        "pub fn two<I>(",
        "&self,",
        ") -> impl Future<Output = Result<(), Error>>",
        "where",
        "I: IntoIterator,",
        "{",
        "}",
        "",
        "pub async fn three() -> Result<A, Error> {",
        "pub fn four<F>(f: F) -> Self",
        "where",
        "F: Fn() -> Result<A, Error>,",
        "{",
    ];
    assert_eq!(without_errors(&source.join("\n")), ["two", "three"]);
    let mut count = 0;
    for path in files("client-sdk/src").into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let source = std::fs::read_to_string(&path).unwrap();
        count += source.matches("/// # Errors").count();
        // It fails with nothing but what every method may fail with.
        let silent: Vec<String> = without_errors(&source).into_iter().filter(|name| name != "leave_all_room").collect();
        assert!(silent.is_empty(), "{}: write `# Errors` for {silent:?}", path.display());
    }
    assert!(count > 200, "{count}");
}

#[test]
fn the_figures_of_the_first_page_are_those_that_were_measured() {
    let first = std::fs::read_to_string(root().join("README.md")).unwrap();
    let measured = include_str!("../../docs/performance.md");
    let rows: Vec<Vec<&str>> = first
        .lines()
        .filter(|line| line.starts_with('|') && line.contains("`zim bench"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 5, "{rows:?}");
    for row in rows {
        assert!(measured.contains(row[2]), "docs/performance.md does not have {}", row[2]);
    }
}

/// The code block of the page that lists the settings.
fn block() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// `section.name` of every setting in the block.
fn names_in_block() -> BTreeSet<String> {
    let mut section = String::new();
    let mut names = BTreeSet::new();
    for line in block().lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((name, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            names.insert(format!("{section}{name}"));
        }
    }
    names
}

fn names_of_settings() -> BTreeSet<String> {
    let Value::Object(settings) = serde_json::to_value(Config::default()).unwrap() else { return BTreeSet::new() };
    let mut names = BTreeSet::new();
    for (name, value) in settings {
        match value {
            Value::Object(section) => names.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => drop(names.insert(name)),
        }
    }
    names
}

#[test]
fn every_setting_is_in_the_book() {
    assert_eq!(names_in_block(), names_of_settings());
}

#[test]
fn the_book_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zim.toml");
    std::fs::write(&file, block()).unwrap();
    let arguments = ["zim-server".into(), "--config".into(), OsString::from(file)];
    let args = Args::parse_from(arguments).unwrap();
    assert_eq!(Config::load(&args, []).unwrap(), Config::default());
}

/// What a newcomer copies to run one server. Whether the files are there is not asked here.
#[test]
fn the_settings_of_one_server_are_accepted() {
    let page = include_str!("../../docs/operations/deploy/README.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zim.toml");
    std::fs::write(&file, rest.split_once("```").unwrap().0).unwrap();
    let arguments = ["zim-server".into(), "--config".into(), OsString::from(file)];
    let config = Config::load(&Args::parse_from(arguments).unwrap(), []).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/zim"));
    // The unit makes this folder and no other.
    let unit = include_str!("../../docs/operations/deploy/zim-server.service");
    assert!(unit.contains("\nStateDirectory=zim\n") && unit.contains("--config /etc/zim/zim.toml"));
}

/// An operator sets them in the shell in which the server starts, too.
#[test]
fn the_server_accepts_the_variables_of_the_command_line() {
    let is_name = |part: &str| {
        part.len() > 4 && part.starts_with("ZIM_") && part.bytes().all(|it| it.is_ascii_uppercase() || it == b'_')
    };
    let mut found = BTreeSet::new();
    for path in files("cli/src") {
        let text = std::fs::read_to_string(&path).unwrap();
        found.extend(text.split('"').filter(|part| is_name(part)).map(str::to_owned));
    }
    assert!(found.contains("ZIM_TOKEN") && found.len() >= 10, "{found:?}");
    for name in found {
        // The command line sets it for the server that it starts.
        let value = match name.as_str() {
            "ZIM_DATABASE" => "sqlite://a",
            // A bus needs PostgreSQL, and this is the address of none.
            "ZIM_BUS" => "",
            _ => "anything",
        };
        let args = Args::parse_from(["zim-server".into()]).unwrap();
        assert!(Config::load(&args, [(name.clone(), value.to_owned())]).is_ok(), "{name}");
    }
}

/// Runs the commands of the page, with stand-ins for the programs that copy a database.
#[cfg(unix)]
#[test]
fn backups_made_as_the_page_says_are_private() {
    use std::os::unix::fs::PermissionsExt;

    let page = include_str!("../../docs/operations/backup.md");
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let blocks: Vec<&str> = blocks.filter(|block| block.contains("backup/zim.")).collect();
    assert_eq!(blocks.len(), 2, "one for each database");
    for block in blocks {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("zim-data");
        std::fs::create_dir(&data).unwrap();
        for name in ["cert.pem", "key.pem", "admin.key", "transport.key", "first-app.toml"] {
            std::fs::write(data.join(name), name).unwrap();
            std::fs::set_permissions(data.join(name), PermissionsExt::from_mode(0o600)).unwrap();
        }
        // A folder of earlier backups, which others could read.
        let backup = folder.path().join("backup");
        std::fs::create_dir(&backup).unwrap();
        std::fs::set_permissions(&backup, PermissionsExt::from_mode(0o755)).unwrap();
        let stand_ins =
            "umask 022\nsqlite3() { : >backup/zim.db; }\npg_dump() { : >backup/zim.dump; }\nset -eu\nDATABASE=x\n";
        let mut shell = std::process::Command::new("sh");
        let done = shell.arg("-c").arg(format!("{stand_ins}{block}")).current_dir(folder.path()).status().unwrap();
        assert!(done.success(), "{block}");
        let made: Vec<_> = std::fs::read_dir(&backup).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(made.len(), 6, "{made:?}");
        for path in made.iter().chain([&backup]) {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
    }
}

/// The files in a folder of the project and in the folders below it.
fn files(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // The built book is not a source.
            match path.is_dir() {
                true if path.ends_with("docs/book") => {}
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files
}

/// The Markdown files of the documentation.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|name| root().join(name)).into();
    pages.extend(files("docs").into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")));
    pages
}

/// The targets of the links of a page, except for web addresses.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
}

/// The anchors of a page: its headings in lower case, with dashes.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_has_a_target() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = std::fs::read_to_string(&target)
                .is_ok_and(|text| anchor.is_empty() || anchors(&text).iter().any(|heading| heading == anchor));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links without a target:\n{}", broken.join("\n"));
}

#[test]
fn the_book_has_every_page() {
    let docs = root().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = links(&summary).map(|link| docs.join(link)).collect();
    let is_page = |path: &PathBuf| path.extension().is_some_and(|end| end == "md") && !path.ends_with("SUMMARY.md");
    let written: BTreeSet<PathBuf> = files("docs").into_iter().filter(is_page).collect();
    assert_eq!(listed, written);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What a page has in backticks and what looks like the path of a file or a folder of the repository.
fn named_paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| {
        let is_path = name.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
        is_path
            && ["protocol/", "server/", "client-sdk/", "cli/", "integration-tests/", "docs/"]
                .iter()
                .any(|part| name.starts_with(part))
    })
}

/// The blocks of code of a page, each with the file that was named last before it.
fn quotes(page: &str) -> Vec<(String, String)> {
    let (mut quotes, mut file, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (Some(text), None) => *text += &format!("{line}\n"),
            (Some(_), Some(_)) => quotes.extend(block.take().map(|text| (file.clone(), text))),
            (None, Some(language)) => block = (!language.is_empty() && language != "sh").then(String::new),
            (None, None) => {
                if let Some(path) = named_paths(line).filter(|path| path.contains('.')).last() {
                    path.clone_into(&mut file);
                }
            }
        }
    }
    quotes
}

/// The lines of a text that say something, without indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_files_that_contributors_are_sent_to_are_there() {
    for page in ["CONTRIBUTING.md", "docs/adding-an-rpc.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let names: Vec<&str> = named_paths(&text).collect();
        assert!(names.len() > 5, "{page}: {names:?}");
        for name in names {
            assert!(root().join(name).exists(), "{page} names {name}, which is not there");
        }
    }
}

#[test]
fn the_code_that_the_guide_to_a_new_method_quotes_is_the_sources() {
    let page = std::fs::read_to_string(root().join("docs/adding-an-rpc.md")).unwrap();
    let quotes = quotes(&page);
    assert!(quotes.len() >= 5, "{}", quotes.len());
    for (file, quote) in quotes {
        let source = std::fs::read_to_string(root().join(&file)).unwrap();
        let source = lines(&source);
        // "..." leaves something out.
        for part in quote.split("// ...") {
            let part = lines(part);
            let is_there = source.windows(part.len().max(1)).any(|window| window == part) || part.is_empty();
            assert!(is_there, "{file} does not have these lines:\n{}", part.join("\n"));
        }
    }
}

/// The names of the metrics that stand in the sources of the server.
fn metrics_of_the_server() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files("server/src") {
        let text = std::fs::read_to_string(&path).unwrap();
        let quoted = text.split('"').filter(|part| part.starts_with("zim_"));
        names.extend(quoted.filter(|part| words(part).eq([*part])).map(str::to_owned));
    }
    names
}

/// The words of a text: letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The texts in a document under any of these keys.
fn texts_under(value: &Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text.clone()),
                    value => texts_under(value, keys, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts_under(item, keys, found)),
        _ => {}
    }
}

/// The metrics of the page, each with its labels.
fn metrics_of_the_page() -> Vec<(String, BTreeSet<String>)> {
    let page = include_str!("../../docs/operations/metrics.md");
    let mut metrics = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| `zim_")) {
        let cells: Vec<&str> = line.split('|').collect();
        let labels: BTreeSet<String> = words(cells[2]).map(str::to_owned).collect();
        metrics.extend(words(cells[1]).map(|name| (name.to_owned(), labels.clone())));
    }
    metrics
}

/// The metric of a series: a histogram is three of them. Only those in seconds have buckets.
fn metric_of<'a>(series: &'a str, metrics: &BTreeSet<String>) -> Option<&'a str> {
    if metrics.contains(series) {
        return Some(series);
    }
    let base = series.strip_suffix("_bucket").filter(|base| base.ends_with("_seconds"));
    let base = base.or_else(|| series.strip_suffix("_sum")).or_else(|| series.strip_suffix("_count"));
    base.filter(|base| metrics.contains(*base))
}

#[test]
fn the_page_has_the_metrics_of_the_server() {
    let listed: BTreeSet<String> = metrics_of_the_page().into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, metrics_of_the_server());
}

#[test]
fn the_dashboard_shows_metrics_and_labels_that_the_server_has() {
    let dashboard = include_str!("../../docs/operations/grafana/zim.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let there = metrics_of_the_server();
    let mut queries = Vec::new();
    texts_under(&dashboard, &["expr", "query", "definition"], &mut queries);
    assert!(queries.len() > 30, "{}", queries.len());
    let (mut used, mut unknown) = (BTreeSet::new(), Vec::new());
    for query in &queries {
        for series in words(query).filter(|word| word.starts_with("zim_")) {
            match metric_of(series, &there) {
                Some(metric) => drop(used.insert(metric.to_owned())),
                None => unknown.push(series.to_owned()),
            }
        }
    }
    assert!(unknown.is_empty(), "the server has no such metrics: {unknown:?}");
    // And the other way round: what the server measures can be seen.
    assert_eq!(used, metrics_of_the_page().into_iter().map(|(name, _)| name).collect());
}

#[test]
fn the_alert_rules_look_at_metrics_that_the_server_has() {
    let rules = include_str!("../../docs/operations/deploy/alerts.yaml");
    let there = metrics_of_the_server();
    let used: Vec<&str> = words(rules).filter(|word| word.starts_with("zim_")).collect();
    assert!(used.len() >= 5, "{used:?}");
    for series in used {
        assert!(metric_of(series, &there).is_some(), "the server has no metric {series}");
    }
}

#[test]
fn the_dashboard_groups_by_labels_that_its_metrics_have() {
    let dashboard = include_str!("../../docs/operations/grafana/zim.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let (there, labels) = (metrics_of_the_server(), metrics_of_the_page());
    // Prometheus adds where a series comes from, and a bucket has its bound.
    let common = ["job", "instance", "le"];
    let mut queries = Vec::new();
    texts_under(&dashboard, &["expr"], &mut queries);
    let mut checked = 0;
    for query in queries {
        let series = words(&query).find(|word| word.starts_with("zim_")).unwrap();
        let metric = metric_of(series, &there).unwrap();
        let (_, own) = labels.iter().find(|(name, _)| name == metric).unwrap();
        let grouped = query.split("by (").skip(1).flat_map(|rest| words(rest.split(')').next().unwrap()));
        let selected = query.split('{').skip(1).flat_map(|rest| {
            let conditions = rest.split('}').next().unwrap().split(", ");
            conditions.filter_map(|condition| words(condition).next())
        });
        for label in grouped.chain(selected) {
            checked += 1;
            assert!(common.contains(&label) || own.contains(label), "{metric} has no label {label}: {query}");
        }
    }
    assert!(checked > 50, "{checked}");
}
