//! Which method a test belongs to: the one with the longest name that the test's own begins with. `create_group_…` is a test of
//! `create_group`, and none of `create`.

use std::collections::BTreeSet;

/// The names of all methods: those of the reference, of the wire and of the SDK.
pub(crate) struct Methods(BTreeSet<String>);

impl Methods {
    /// Of the SDK's own methods, one with further words after `with` is a form of the method without them.
    pub(crate) fn new<'a>(
        reference_and_wire: impl IntoIterator<Item = &'a str>,
        of_sdk: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut names: BTreeSet<String> = reference_and_wire.into_iter().map(str::to_owned).collect();
        let is_form = |name: &String| name.split_once("_with_").is_some_and(|(method, _)| names.contains(method));
        let own: Vec<String> = of_sdk.into_iter().filter(|name| !is_form(name)).collect();
        names.extend(own);
        Self(names)
    }

    /// Returns the method of a test; `None`: it begins with none.
    pub(crate) fn owner(&self, test: &str) -> Option<&str> {
        let fits = |name: &&String| {
            test.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        self.0.iter().filter(fits).max_by_key(|name| name.len()).map(String::as_str)
    }

    /// Returns all methods that a test names: its own, and those whose names follow an `and`, as in `call_accept_and_call_reject_…`.
    pub(crate) fn all(&self, test: &str) -> BTreeSet<&str> {
        let Some(first) = self.owner(test) else { return BTreeSet::new() };
        let others = test.match_indices("_and_").filter_map(|(at, and)| self.owner(&test[at + and.len()..]));
        others.chain([first]).collect()
    }
}

/// Returns the name of a method in those of tests: two modules have a `getInstance`, and that of the second one has the module's name.
pub(crate) fn in_tests(rows: &[(&str, &str)], (module, name): (&str, &str)) -> String {
    let first = rows.iter().find(|(_, other)| *other == name).map_or(module, |(module, _)| module);
    if first == module { name.to_owned() } else { format!("{module}_{name}") }
}

#[test]
fn a_test_belongs_to_the_method_with_the_longest_name() {
    let of_sdk = ["on_event", "login_with_user_info"].map(str::to_owned);
    let methods = Methods::new(["create", "create_group", "on", "login"], of_sdk);
    for (test, owner) in [
        ("create", Some("create")),
        ("create_makes_one", Some("create")),
        ("create_group_makes_one", Some("create_group")),
        ("created", None),
        ("on_event_is_raised", Some("on_event")),
        ("login_with_user_info_is_older", Some("login")),
        ("a_login", None),
    ] {
        assert_eq!(methods.owner(test), owner, "{test}");
    }
    for (test, all) in [
        ("create_group_and_login_have_limits", &["create_group", "login"][..]),
        ("create_and_others_and_on_event_too", &["create", "on_event"]),
        ("a_login_and_create", &[]),
    ] {
        assert_eq!(methods.all(test), all.iter().copied().collect(), "{test}");
    }
    let rows = [("session", "get_instance"), ("push", "get_instance"), ("push", "register")];
    assert_eq!(rows.map(|row| in_tests(&rows, row)), ["get_instance", "push_get_instance", "register"]);
}
