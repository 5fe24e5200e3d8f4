//! `zim group members`: who is in a group.

use clap::Args;
use zim_client_sdk::Zim;
use zim_protocol::{GroupMemberInfo, GroupMemberQueryConfig, GroupMemberSearchConfig};

use super::member_table;
use crate::command::friend::{ListArgs, next_count};
use crate::context::now_ms;
use crate::exit::Failure;
use crate::output::Output;

/// The most members on a page of a list, and of a search.
const PAGE: i64 = 100;
const SEARCH_PAGE: i64 = 30;

/// `zim group members`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim group members crew
  zim group members crew bob
  zim group members crew --search bob
  zim group members crew --total")]
pub(crate) struct MembersArgs {
    /// The group
    group: String,
    /// Only this member
    #[arg(value_name = "USER", conflicts_with_all = ["search", "total"])]
    user: Option<String>,
    /// Only members whose name or nickname contains this text, ignoring case; may be repeated up to 5 times
    #[arg(long, value_name = "KEYWORD", conflicts_with = "total")]
    search: Vec<String>,
    /// Say only how many there are
    #[arg(long)]
    total: bool,
    #[command(flatten)]
    list: ListArgs,
}

impl MembersArgs {
    /// Whether the local copy must be complete: the search goes through it.
    pub(super) fn needs_copy(&self) -> bool {
        !self.search.is_empty()
    }
}

pub(super) async fn run(args: MembersArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    if args.total {
        return total(&args.group, zim, output).await;
    }
    let MembersArgs { group, user, search: keywords, list: ListArgs { count }, .. } = args;
    let found: Vec<GroupMemberInfo> = match user {
        Some(user) => zim.query_group_member_info(&user, &group).await?.user_info.into_iter().collect(),
        None if keywords.is_empty() => members(&group, count, zim).await?,
        None => search(&group, &keywords, count, zim).await?,
    };
    if output.is_json() {
        return found.iter().try_for_each(|member| output.json(member));
    }
    if found.is_empty() {
        return output.line("No member matches.");
    }
    output.table(&member_table(&found, now_ms()))
}

async fn total(group: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_group_member_count(group).await?;
    if output.is_json() {
        return output.json(&found);
    }
    output.line(match found.count {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    })
}

async fn members(group: &str, most: i64, zim: &Zim) -> Result<Vec<GroupMemberInfo>, Failure> {
    let (mut all, mut next_flag) = (Vec::new(), 0);
    while let Some(count) = next_count(most, all.len()) {
        let page = zim.query_group_member_list(group, GroupMemberQueryConfig { next_flag, count }).await?;
        all.extend(page.user_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    Ok(all)
}

/// Reads all members of a group: the local copy, which a search goes through, has those who were on a page.
pub(super) async fn read_all(group: &str, zim: &Zim) -> Result<(), Failure> {
    let mut next_flag = 0;
    loop {
        let config = GroupMemberQueryConfig { next_flag, count: PAGE };
        next_flag = zim.query_group_member_list(group, config).await?.next_flag;
        if next_flag == 0 {
            return Ok(());
        }
    }
}

/// Searches all members.
async fn search(group: &str, keywords: &[String], most: i64, zim: &Zim) -> Result<Vec<GroupMemberInfo>, Failure> {
    read_all(group, zim).await?;
    let (mut found, mut next_flag) = (Vec::new(), 0);
    while let Some(count) = next_count(most, found.len()) {
        let config = GroupMemberSearchConfig {
            next_flag,
            count: count.min(SEARCH_PAGE),
            keywords: keywords.to_vec(),
            is_also_match_group_member_nickname: true,
        };
        let page = zim.search_local_group_members(group, config).await?;
        found.extend(page.user_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MembersArgs,
    }

    #[test]
    fn members_are_all_one_those_who_match_or_a_number() {
        let parse = |line: &str| Line::try_parse_from(line.split_whitespace()).map(|line| line.args);
        let all = parse("members crew").unwrap();
        assert_eq!((all.group.as_str(), all.user, all.total, all.list.count), ("crew", None, false, 100));
        assert_eq!(parse("members crew bob").unwrap().user.as_deref(), Some("bob"));
        let some = parse("members crew --search a --search b -n 7").unwrap();
        assert!(some.needs_copy() && !parse("members crew").unwrap().needs_copy());
        assert_eq!((some.search, some.list.count), (vec!["a".to_owned(), "b".to_owned()], 7));
        assert!(parse("members crew --total").unwrap().total);
        for wrong in
            ["members", "members crew bob --total", "members crew bob --search b", "members crew --search b --total"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
