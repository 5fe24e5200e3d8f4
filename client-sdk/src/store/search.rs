//! Local search: an index that finds every substring, in any script, also of one or two characters, ignoring case.
//! Chinese and Japanese users search with two characters; FTS5's own trigram tokenizer finds nothing shorter than three
//! (docs/decisions/0011-search-by-bigrams.md has the measurements).
//!
//! A text is indexed as its overlapping pairs of characters, each written as an ASCII word: a character is four digits
//! of base 36, a pair is eight, and the last character follows once more on its own. So `abc` becomes `[ab] [bc] [c]`.
//! A keyword of two or more characters becomes the phrase of its pairs, which are adjacent in the text if and only if
//! the text contains the keyword. A keyword of one character is the prefix of a word, and `prefix='4'` makes that a
//! lookup. No character of a text or keyword has a meaning to FTS5, because none reaches it.
//!
//! An index is a table `USING fts5 (…, content='', contentless_delete=1, tokenize='ascii', prefix='4')`. Triggers write
//! its rows with `search_text(…)`, so that no statement can miss it.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Adds the function that the triggers use to a connection that writes.
pub(crate) fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("search_text", 1, flags, |context| Ok(indexed(&context.get::<String>(0)?)))
}

/// Returns the indexed form of a text.
fn indexed(text: &str) -> String {
    let characters: Vec<char> = folded(text).collect();
    words(&characters, true)
}

/// Builds the query for rows that contain all of `keywords` in these columns, each keyword in any of them. `None`:
/// there is no keyword, or one is empty.
pub(crate) fn query<S: AsRef<str>>(columns: &[&str], keywords: &[S]) -> Option<String> {
    let mut phrases = Vec::with_capacity(keywords.len());
    for keyword in keywords {
        let characters: Vec<char> = folded(keyword.as_ref()).collect();
        phrases.push(match characters.as_slice() {
            [] => return None,
            [_] => format!("\"{}\" *", words(&characters, true)),
            _ => format!("\"{}\"", words(&characters, false)),
        });
    }
    if phrases.is_empty() {
        return None;
    }
    Some(format!("{{{}}} : ({})", columns.join(" "), phrases.join(" AND ")))
}

/// Folds case: upper and then lower case, because some letters have two lower-case forms (σ, ς) or two upper-case
/// letters (ß, SS). The four Turkish forms of i are treated as one.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .map(|letter| if letter == 'İ' { 'I' } else { letter })
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
}

/// Returns the pairs, optionally followed by the last character.
fn words(characters: &[char], with_last: bool) -> String {
    let mut words = String::with_capacity(characters.len() * 9);
    for pair in characters.windows(2) {
        pair.iter().for_each(|character| push(&mut words, *character));
        words.push(' ');
    }
    match characters.last() {
        Some(last) if with_last => push(&mut words, *last),
        _ => drop(words.pop()),
    }
    words
}

/// Appends a character as four digits: 36^4 exceeds the number of characters.
fn push(words: &mut String, character: char) {
    let code = u32::from(character);
    for place in [36 * 36 * 36, 36 * 36, 36, 1] {
        words.push(char::from(DIGITS[(code / place % 36) as usize]));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Two searched columns, kept up to date by triggers.
    struct Index(Connection);

    impl Index {
        fn new() -> Self {
            let db = Connection::open_in_memory().unwrap();
            install(&db).unwrap();
            db.execute_batch(
                "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, alias TEXT NOT NULL);
                 CREATE VIRTUAL TABLE found USING fts5
                     (name, alias, content='', contentless_delete=1, tokenize='ascii', prefix='4');
                 CREATE TRIGGER a AFTER INSERT ON person BEGIN
                     INSERT INTO found (rowid, name, alias) VALUES (new.id, search_text(new.name), search_text(new.alias));
                 END;
                 CREATE TRIGGER b AFTER UPDATE ON person BEGIN
                     DELETE FROM found WHERE rowid = old.id;
                     INSERT INTO found (rowid, name, alias) VALUES (new.id, search_text(new.name), search_text(new.alias));
                 END;
                 CREATE TRIGGER c AFTER DELETE ON person BEGIN DELETE FROM found WHERE rowid = old.id; END;",
            )
            .unwrap();
            Self(db)
        }

        fn put(&self, id: i64, (name, alias): (&str, &str)) {
            let sql = "INSERT INTO person (id, name, alias) VALUES (?1, ?2, ?3) \
                       ON CONFLICT (id) DO UPDATE SET name = excluded.name, alias = excluded.alias";
            self.0.execute(sql, rusqlite::params![id, name, alias]).unwrap();
        }

        fn find<S: AsRef<str>>(&self, columns: &[&str], keywords: &[S]) -> Vec<i64> {
            let Some(query) = query(columns, keywords) else { return Vec::new() };
            let mut statement = self.0.prepare("SELECT rowid FROM found WHERE found MATCH ?1 ORDER BY rowid").unwrap();
            let rows = statement.query_map([query], |row| row.get(0)).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        }
    }

    fn fold(text: &str) -> String {
        folded(text).collect()
    }

    fn finds(text: &str, keyword: &str) -> bool {
        let index = Index::new();
        index.put(1, (text, ""));
        !index.find(&["name"], &[keyword]).is_empty()
    }

    #[test]
    fn one_and_two_characters_of_any_script_are_enough() {
        for (text, keyword) in [
            ("張偉", "偉"),
            ("張偉", "張偉"),
            ("東京タワー", "タワ"),
            ("さくら", "く"),
            ("Ann B.", "b"),
            ("Ann B.", "n b"),
            ("👩‍👩‍👧 family", "👧"),
            ("🇹🇷🇩🇪", "🇩🇪"),
            ("e\u{301}te\u{301}", "\u{301}"),
            ("O'Brien \"Bo\"", "\""),
            ("a AND b* (c) NEAR d: -e {f} ^g", "* (c) NEAR"),
            ("x", "x"),
            (" ", " "),
        ] {
            assert!(finds(text, keyword), "{keyword:?} in {text:?}");
        }
        for (text, keyword) in [("ab bc", "bb"), ("張偉", "偉張"), ("", "a"), ("abc", "abcd"), ("a", "aa")] {
            assert!(!finds(text, keyword), "{keyword:?} in {text:?}");
        }
    }

    #[test]
    fn case_does_not_matter_in_any_script() {
        for (text, keyword) in [
            ("STRASSE", "straße"),
            ("Straße", "STRASSE"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
            ("οδυσσευς", "ΣΕΥΣ"),
            ("Ёлка", "ЁЛ"),
            ("İzmir", "İZMİR"),
            ("Diyarbakır", "BAKIR"),
            ("ÀÉÎ", "àéî"),
        ] {
            assert!(finds(text, keyword), "{keyword:?} in {text:?}");
        }
    }

    #[test]
    fn no_keyword_or_an_empty_one_gives_no_query() {
        assert_eq!(query::<&str>(&["name"], &[]), None);
        assert_eq!(query(&["name"], &["a", ""]), None);
    }

    #[test]
    fn each_keyword_may_match_another_column_but_never_across_two() {
        let index = Index::new();
        index.put(1, ("Robert", "Bob"));
        index.put(2, ("Bob", "Bert"));
        assert_eq!(index.find(&["name", "alias"], &["bob", "bert"]), [1, 2]);
        assert_eq!(index.find(&["name"], &["bob"]), [2]);
        assert_eq!(index.find(&["name", "alias"], &["tb"]), [0_i64; 0]);
    }

    const ALPHABET: &str =
        "aAbBcC zZßSsıİσςΣéÉ\u{301}\u{308}張偉東京北林森タワさくらーが👩👧👍🏽\u{200d}🇹🇷🇩🇪\"'*():^-+{}~%_\\\\";

    fn texts() -> impl Strategy<Value = String> {
        let character = proptest::sample::select(ALPHABET.chars().collect::<Vec<_>>());
        let word = proptest::sample::select(vec!["AND", "OR", "NOT", "NEAR", "a", "張偉", " ", "\"\"", "-", "name:"]);
        prop_oneof![
            4 => proptest::collection::vec(character, 0..12).prop_map(String::from_iter),
            1 => proptest::collection::vec(word, 0..5).prop_map(|words| words.concat()),
            1 => any::<String>(),
        ]
    }

    /// A substring of a text, or any text.
    fn keyword(texts: &[(String, String)], (at, from, length): (usize, usize, usize), other: Option<String>) -> String {
        match (other, texts.get(at % texts.len().max(1))) {
            (Some(other), _) => other,
            (None, None) => String::new(),
            (None, Some((name, alias))) => {
                let text: Vec<char> = if at.is_multiple_of(2) { name } else { alias }.chars().collect();
                text.iter().skip(from % text.len().max(1)).take(length).collect()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Compares the index with a scan of all texts.
        #[test]
        fn the_index_finds_exactly_the_matching_rows(
            rows in proptest::collection::vec((texts(), texts()), 0..12),
            changes in proptest::collection::vec((0..12_usize, proptest::option::of((texts(), texts()))), 0..6),
            picks in proptest::collection::vec(((0..24_usize, 0..12_usize, 1..5_usize), proptest::option::weighted(0.3, texts())), 1..8),
        ) {
            let index = Index::new();
            let mut there: BTreeMap<i64, (String, String)> = (1..).zip(rows.clone()).collect();
            for (id, (name, alias)) in &there {
                index.put(*id, (name, alias));
            }
            for (id, change) in (changes.into_iter()).map(|(id, change)| (i64::try_from(id).unwrap(), change)) {
                match change {
                    Some((name, alias)) => {
                        index.put(id, (&name, &alias));
                        there.insert(id, (name, alias));
                    }
                    None => {
                        index.0.execute("DELETE FROM person WHERE id = ?1", [id]).unwrap();
                        there.remove(&id);
                    }
                }
            }
            let keywords: Vec<String> = picks.into_iter().map(|(pick, other)| keyword(&rows, pick, other)).collect();
            for count in 1..=keywords.len().min(5) {
                let wanted = &keywords[..count];
                for columns in [&["name"][..], &["alias"], &["name", "alias"]] {
                    let expected: Vec<i64> = there
                        .iter()
                        .filter(|(_, (name, alias))| {
                            let texts = [("name", fold(name)), ("alias", fold(alias))];
                            wanted.iter().all(|keyword| {
                                let is_in = |(column, text): &(&str, String)| {
                                    columns.contains(column) && text.contains(&fold(keyword)) && !keyword.is_empty()
                                };
                                texts.iter().any(is_in)
                            })
                        })
                        .map(|(id, _)| *id)
                        .collect();
                    prop_assert_eq!(index.find(columns, wanted), expected, "{:?} in {:?}", wanted, columns);
                }
            }
        }
    }
}
