//! Local search: an index that finds every substring, in any script, also of one or two characters, ignoring case and
//! how letters are encoded.
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

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// The version of [`folded`], which includes that of Unicode. It goes up when any text is folded in another way, so that
/// existing indexes are built again.
const FOLDING: i64 = 1;

/// Empties the index of messages, which are indexed again later.
pub(crate) const CLEAR_MESSAGES: &str = "INSERT INTO message_search (message_search) VALUES ('delete-all'); \
     DELETE FROM message_doc; DELETE FROM message_unindexed; UPDATE message_indexed SET through = 0, shift = 0;";

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Adds the function that the triggers use to a connection that writes.
pub(crate) fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("search_text", 1, flags, |context| Ok(indexed(&context.get::<String>(0)?)))
}

/// Builds the indexes again if their texts were folded in another way.
pub(crate) fn rebuild(connection: &mut Connection) -> rusqlite::Result<()> {
    let folding: i64 = connection.query_row("SELECT folding FROM device", [], |row| row.get(0))?;
    if folding == FOLDING {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "INSERT INTO friend_search (friend_search) VALUES ('delete-all');
         INSERT INTO friend_search (rowid, user_name, alias) SELECT id, user_name, alias FROM friend_searched;",
    )?;
    transaction.execute_batch(CLEAR_MESSAGES)?;
    transaction.execute("UPDATE device SET folding = ?1", [FOLDING])?;
    transaction.commit()
}

/// Returns the indexed form of a text.
fn indexed(text: &str) -> String {
    let characters: Vec<char> = folded(text).chars().collect();
    words(&characters, true)
}

/// Builds the query for rows that contain all of `keywords` in these columns, each keyword in any of them. `None`:
/// there is no keyword, or one is empty.
pub(crate) fn query<S: AsRef<str>>(columns: &[&str], keywords: &[S]) -> Option<String> {
    let mut phrases = Vec::with_capacity(keywords.len());
    for keyword in keywords {
        phrases.push(phrase(keyword.as_ref())?);
    }
    if phrases.is_empty() {
        return None;
    }
    Some(format!("{{{}}} : ({})", columns.join(" "), phrases.join(" AND ")))
}

/// Builds the query for rows that contain a keyword; `None`: it is empty.
fn phrase(keyword: &str) -> Option<String> {
    let characters: Vec<char> = folded(keyword).chars().collect();
    match characters.as_slice() {
        [] => None,
        [_] => Some(format!("\"{}\" *", words(&characters, true))),
        _ => Some(format!("\"{}\"", words(&characters, false))),
    }
}

/// Returns the indexed form of a message: a word of three characters for each position, shorter at the end. In a million
/// messages every pair of characters is frequent, so a long keyword that is in none would take long with pairs. An index of
/// them has `prefix='4 8'`.
pub(crate) fn indexed_in_threes(text: &str) -> String {
    let characters: Vec<char> = folded(text).chars().collect();
    let mut words = String::with_capacity(characters.len() * 13);
    for at in 0..characters.len() {
        characters.iter().skip(at).take(3).for_each(|character| push(&mut words, *character));
        words.push(' ');
    }
    words.pop();
    words
}

/// Builds the query for messages that contain a keyword; `None`: it is empty.
pub(crate) fn phrase_in_threes(keyword: &str) -> Option<String> {
    let characters: Vec<char> = folded(keyword).chars().collect();
    let mut words = String::new();
    if let [_] | [_, _] = characters.as_slice() {
        characters.iter().for_each(|character| push(&mut words, *character));
        return Some(format!("\"{words}\" *"));
    }
    for three in characters.windows(3) {
        three.iter().for_each(|character| push(&mut words, *character));
        words.push(' ');
    }
    (!words.is_empty()).then(|| format!("\"{}\"", words.trim_end()))
}

/// Returns whether all keywords are in these texts, each in any of them.
pub(crate) fn contain(texts: &[&str], keywords: &[String]) -> bool {
    let texts: Vec<Cow<'_, str>> = texts.iter().map(|text| folded(text)).collect();
    keywords.iter().all(|keyword| {
        let keyword = folded(keyword);
        texts.iter().any(|text| text.contains(&*keyword))
    })
}

/// Returns the form in which texts are compared: texts that differ in case, or are canonically equivalent, are equal.
/// All local search goes through this function.
///
/// This is Unicode's canonical caseless match (full case folding between normalizations), with composed letters, so that
/// `e` is not found in `é`. The four Turkish forms of i are treated as one.
fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    let decomposed = DecomposingNormalizerBorrowed::new_nfd().normalize(text);
    let folded = CaseMapper::new().fold_string(&decomposed);
    let one_i = folded.replace('ı', "i").replace("i\u{307}", "i");
    Cow::Owned(ComposingNormalizerBorrowed::new_nfc().normalize(&one_i).into_owned())
}

/// Keywords of a search that has no index: it reads rows, of which there are few.
#[derive(Clone, Debug)]
pub(crate) struct Keywords(Vec<String>);

impl Keywords {
    /// Takes the keywords, of which none is empty.
    pub(crate) fn new<S: AsRef<str>>(keywords: &[S]) -> Self {
        Self(keywords.iter().map(|keyword| folded(keyword.as_ref()).into_owned()).collect())
    }

    /// Whether each keyword is in one of these texts.
    pub(crate) fn are_in<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let texts: Vec<Cow<'_, str>> = texts.into_iter().map(folded).collect();
        self.0.iter().all(|keyword| texts.iter().any(|text| text.contains(keyword.as_str())))
    }
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
        folded(text).into_owned()
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
            ("x\u{301}tx\u{301}", "\u{301}"),
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
            ("GROẞ", "groß"),
            ("Straße", "STRAẞE"),
            ("ﬁnal", "FINAL"),
            ("ᾳ", "ΑΙ"),
            ("ԵՒ", "և"),
            ("Ꭰ", "ꭰ"),
        ] {
            assert!(finds(text, keyword), "{keyword:?} in {text:?}");
        }
    }

    #[test]
    fn composed_and_decomposed_letters_are_equal() {
        for (text, keyword) in [
            ("Zoe\u{308}", "Zoë"),
            ("Zoë", "ZOE\u{308}"),
            ("각", "\u{1100}\u{1161}\u{11a8}"),
            ("ệ", "e\u{302}\u{323}"),
            ("Å", "\u{212b}"),
            ("ά\u{345}", "\u{1fb4}"),
            ("İ", "i\u{307}"),
        ] {
            assert!(finds(text, keyword) && finds(keyword, text), "{keyword:?} and {text:?}");
        }
        for (text, keyword) in [("é", "e"), ("e\u{301}", "e"), ("é", "\u{301}"), ("Ｚ", "z"), ("²", "2")] {
            assert!(!finds(text, keyword), "{keyword:?} in {text:?}");
        }
    }

    /// Folds each character. If the hash differs, [`FOLDING`] goes up, so that existing indexes are built again.
    #[test]
    fn the_number_of_the_folding_goes_up_with_every_change() {
        use sha2::{Digest, Sha256};

        let mut hash = Sha256::new();
        for character in '\0'..=char::MAX {
            hash.update(fold(&String::from(character)));
            hash.update("\0");
        }
        let hash = zim_protocol::id::hex(&hash.finalize()[..8]);
        assert_eq!((FOLDING, hash.as_str()), (1, "6060c87f6fcf5c53"));
    }

    #[test]
    fn an_index_of_another_folding_is_built_again() {
        let mut db = super::super::file::memory().unwrap();
        db.execute_batch(
            "INSERT INTO user (user_id, user_name, avatar_url, extended_data) VALUES ('u1', 'GROẞ', '', '');
             INSERT INTO friend (user_id, alias, attributes, wording, created_at, place) VALUES ('u1', '', '{}', '', 0, 1);
             INSERT INTO friend_search (friend_search) VALUES ('delete-all');
             INSERT INTO friend_search (rowid, user_name, alias) VALUES (1, 'asfoldedbefore', '');",
        )
        .unwrap();
        let found = |db: &Connection| {
            let keywords = ["groß".to_owned()];
            super::super::friend::search(db, &keywords, false, (0, 10)).unwrap().0.len()
        };
        rebuild(&mut db).unwrap();
        assert_eq!(found(&db), 0, "this folding is known, so nothing is built");
        db.execute("UPDATE device SET folding = ?1", [FOLDING - 1]).unwrap();
        rebuild(&mut db).unwrap();
        assert_eq!(found(&db), 1);
        let stored: i64 = db.query_row("SELECT folding FROM device", [], |row| row.get(0)).unwrap();
        assert_eq!(stored, FOLDING);
        let old: i64 = db
            .query_row("SELECT COUNT(*) FROM friend_search WHERE friend_search MATCH 'asfoldedbefore'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(old, 0);
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
        "aAbBcC zZßẞSsıİσςΣéÉeE\u{301}\u{308}\u{307}張偉東京北林森タワさくらーが👩👧👍🏽\u{200d}🇹🇷🇩🇪\"'*():^-+{}~%_\\\\";

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
