//! The observed list of the members of a group: an app that only applies what it is told shows what a query of the server returns.

use futures_util::future::join_all;
use zim_client_sdk::{Diff, MemberList};
use zim_integration_tests::{Device, Proxy, Random, World, eventually, group, soon};
use zim_protocol::{
    ConnectionState, GroupAdvancedConfig, GroupInfo, GroupMemberInfo, GroupMemberMuteConfig, GroupMemberQueryConfig,
    LoginConfig,
};
use zim_server::config::Config;

use crate::group::create;
use crate::large_group::add_members;

/// An app that shows what it is told.
struct App {
    list: MemberList,
    shown: Vec<GroupMemberInfo>,
    limit: usize,
}

impl App {
    async fn of(device: &Device, limit: usize) -> Self {
        Self::of_group(device, "crew", limit).await
    }

    async fn of_group(device: &Device, group_id: &str, limit: usize) -> Self {
        let list = soon(device.group(group_id).observe_members(limit)).await.unwrap();
        let shown = list.items().to_vec();
        Self { list, shown, limit }
    }

    fn load_more(&mut self, count: usize) {
        self.list.load_more(count);
        self.limit += count;
    }

    /// Waits for changes until it shows this. Returns the changes.
    async fn shows(&mut self, expected: &[GroupMemberInfo]) -> Vec<Diff<GroupMemberInfo>> {
        let mut all = Vec::new();
        let expected = &expected[..self.limit.min(expected.len())];
        while self.shown != expected {
            let diffs = tokio::time::timeout(zim_integration_tests::TIMEOUT, self.list.next()).await;
            let diffs = diffs.unwrap_or_else(|_| panic!("{:#?} instead of {expected:#?}", self.shown)).unwrap();
            all.extend(diffs.clone());
            diffs.into_iter().for_each(|diff| diff.apply(&mut self.shown));
            assert_eq!(self.shown, self.list.items());
        }
        all
    }
}

/// The members, page by page, as the server returns them to one of them; nobody, if it returns them to none.
async fn members(devices: &[&Device]) -> Vec<GroupMemberInfo> {
    members_of(devices, "crew").await
}

async fn members_of(devices: &[&Device], group_id: &str) -> Vec<GroupMemberInfo> {
    'devices: for device in devices {
        let (mut all, mut next_flag) = (Vec::new(), 0);
        loop {
            let config = GroupMemberQueryConfig { next_flag, count: 100 };
            let Ok(page) = soon(device.query_group_member_list(group_id, config)).await else { continue 'devices };
            all.extend(page.user_list);
            next_flag = page.next_flag;
            if next_flag == 0 {
                return all;
            }
        }
    }
    Vec::new()
}

fn ids(members: &[GroupMemberInfo]) -> Vec<&str> {
    members.iter().map(|member| member.user_id.as_str()).collect()
}

/// What a change does, to which place.
fn told(diffs: &[Diff<GroupMemberInfo>]) -> Vec<String> {
    let told = |diff: &Diff<GroupMemberInfo>| match diff {
        Diff::Insert { index, item } => format!("insert {index} {}", item.user_id),
        Diff::Update { index, item } => format!("update {index} {}", item.user_id),
        Diff::Remove { index } => format!("remove {index}"),
        Diff::Reset { items } => format!("reset {}", ids(items).join(" ")),
    };
    diffs.iter().map(told).collect()
}

#[tokio::test]
async fn each_change_of_a_member_is_told_in_its_place() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &["bob"]).await;
    let mut app = App::of(&ann, 10).await;
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(ids(&app.shown), ["ann", "bob"]);
    soon(cai.join_group("crew")).await.unwrap();
    assert_eq!(told(&app.shows(&members(&[&ann]).await).await), ["insert 2 cai"]);
    soon(cai.set_group_member_nickname("C", "cai", "crew")).await.unwrap();
    assert_eq!(told(&app.shows(&members(&[&ann]).await).await), ["update 2 cai"]);
    soon(ann.set_group_member_role(2, "bob", "crew")).await.unwrap();
    assert_eq!(told(&app.shows(&members(&[&ann]).await).await), ["update 1 bob"]);
    let for_good = GroupMemberMuteConfig { duration: -1 };
    soon(ann.mute_group_members(true, ["cai"], "crew", for_good)).await.unwrap();
    assert_eq!(told(&app.shows(&members(&[&ann]).await).await), ["update 2 cai"]);
    assert_eq!(app.shown[2].mute_expired_time, -1);
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    assert_eq!(told(&app.shows(&members(&[&ann]).await).await), ["remove 1"]);
    soon(ann.transfer_group_owner("cai", "crew")).await.unwrap();
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(app.shown.iter().map(|member| member.member_role).collect::<Vec<_>>(), [3, 1]);
    // Who returns stands at the end.
    soon(bob.join_group("crew")).await.unwrap();
    app.shows(&members(&[&ann]).await).await;
    soon(cai.leave_group("crew")).await.unwrap();
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(ids(&app.shown), ["ann", "bob"]);
    world.end().await;
}

#[tokio::test]
async fn whoever_is_out_sees_nobody_and_whoever_returns_sees_all() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &["bob"]).await;
    let (mut of_bob, mut of_cai) = (App::of(&bob, 10).await, App::of(&cai, 10).await);
    of_bob.shows(&members(&[&ann]).await).await;
    assert!(of_cai.shown.is_empty());
    soon(cai.join_group("crew")).await.unwrap();
    of_cai.shows(&members(&[&ann]).await).await;
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    assert_eq!(told(&of_bob.shows(&[]).await).last().unwrap(), "reset ");
    // What happens while Bob is out, is there when they return.
    soon(cai.set_group_member_nickname("C", "cai", "crew")).await.unwrap();
    soon(ann.invite_users_into_group(["bob"], "crew")).await.unwrap();
    let all = members(&[&ann]).await;
    assert_eq!(ids(&all), ["ann", "cai", "bob"]);
    of_bob.shows(&all).await;
    of_cai.shows(&all).await;
    soon(ann.dismiss_group("crew")).await.unwrap();
    of_bob.shows(&[]).await;
    of_cai.shows(&[]).await;
    world.end().await;
}

#[tokio::test]
async fn a_device_that_was_away_shows_what_happened() {
    let world = World::with(|config: &mut Config| config.limits.offline_after_ms = 2_000).await;
    let (proxy, ann, cai) = (world.proxy(23).await, world.user("ann").await, world.user("cai").await);
    let bob = world.user_via(&proxy, "bob").await;
    create(&ann, "crew", &["bob"]).await;
    let mut app = App::of(&bob, 10).await;
    app.shows(&members(&[&ann]).await).await;
    // The second time, so much happens that the device is not told of all.
    for changes in [1, 1_010] {
        let before = bob.times_caught_up();
        proxy.cut();
        let is_noticed = async || (bob.connection_state() == ConnectionState::Reconnecting).then_some(());
        eventually("the loss of the connection", is_noticed).await;
        let numbers: Vec<usize> = (0..changes).collect();
        for some in numbers.chunks(50) {
            let nicknames = some.iter().map(|number| format!("{number} of {changes}"));
            let set = nicknames.map(|nickname| ann.set_group_member_nickname(&nickname, "ann", "crew"));
            for one in soon(join_all(set)).await {
                one.unwrap();
            }
        }
        if changes > 1 {
            soon(cai.leave_group("crew")).await.unwrap();
        }
        soon(cai.join_group("crew")).await.unwrap();
        proxy.restore();
        bob.caught_up(before).await;
        app.shows(&members(&[&ann]).await).await;
        assert_eq!(ids(&app.shown), ["ann", "bob", "cai"]);
    }
    // It follows again.
    soon(cai.leave_group("crew")).await.unwrap();
    assert_eq!(told(&app.shows(&members(&[&ann]).await).await), ["remove 2"]);
    world.end().await;
}

#[tokio::test]
async fn what_is_stored_is_shown_without_a_connection() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let mut app = App::of(&bob, 10).await;
    let all = members(&[&ann]).await;
    app.shows(&all).await;
    let dir = bob.dir();
    bob.quit().await;
    while soon(app.list.next()).await.is_some() {}
    let login = world.with_token("bob");
    let bob = world.client_at(dir, |config| config);
    world.stop_server().await;
    soon(bob.login("bob", LoginConfig { is_offline_login: true, ..login })).await.unwrap();
    let mut app = App::of(&bob, 10).await;
    assert_eq!(app.shown, all);
    world.start_server().await;
    let is_back = async || (ann.connection_state() == ConnectionState::Connected).then_some(());
    eventually("the connection", is_back).await;
    soon(ann.set_group_member_nickname("A", "ann", "crew")).await.unwrap();
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(app.shown[0].member_nickname, "A");
    world.end().await;
}

#[tokio::test]
async fn a_large_group_is_loaded_in_pages() {
    let world = World::with(|config: &mut Config| config.limits.max_group_members = 1_000).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let info = GroupInfo { group_id: "crew".into(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob"], GroupAdvancedConfig::default())).await.unwrap();
    add_members(&world, 300).await;
    let mut app = App::of(&bob, 2).await;
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(ids(&app.shown), ["ann", "bob"]);
    // Of those behind what is shown, nothing is told; the messages come after it.
    soon(cai.join_group("crew")).await.unwrap();
    soon(ann.kick_group_members(["user300"], "crew")).await.unwrap();
    app.load_more(1);
    app.shows(&members(&[&ann]).await).await;
    app.load_more(250);
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(app.shown.len(), 253);
    // Those behind move up when somebody is gone.
    soon(ann.kick_group_members(["user1"], "crew")).await.unwrap();
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(app.shown.len(), 253);
    app.load_more(1_000);
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(app.shown.len(), 301);
    soon(cai.leave_group("crew")).await.unwrap();
    app.shows(&members(&[&ann]).await).await;
    assert_eq!(app.shown.len(), 300);
    world.end().await;
}

#[tokio::test]
async fn lists_of_members_end_with_the_login() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "crew", &[]).await;
    let mut app = App::of(&ann, 10).await;
    soon(ann.logout()).await;
    while soon(app.list.next()).await.is_some() {}
    assert!(soon(ann.group("crew").observe_members(1)).await.is_err());
    world.end().await;
}

/// Random changes by everybody in a group of their own, while the connection of one device comes and goes. Returns what the device
/// connects through until it is closed.
async fn change_at_random(world: &World, seed: u64) -> Proxy {
    let [group_id, bob, ann, cai, dan, eva] =
        ["crew", "bob", "ann", "cai", "dan", "eva"].map(|name| format!("{name}{seed}"));
    let names = [&bob, &ann, &cai, &dan, &eva].map(String::as_str);
    let proxy = world.proxy(seed).await;
    let phone = world.user_via(&proxy, &bob).await;
    let mut devices = Vec::new();
    for name in names {
        devices.push(world.user(name).await);
    }
    let crew = group_id.as_str();
    create(&devices[1], crew, &[&bob, &cai]).await;
    let mut apps = [App::of_group(&phone, crew, 3).await, App::of_group(&devices[0], crew, 100).await];
    let mut random = Random::new(seed);
    let mut is_cut = false;
    let present: Vec<&Device> = devices.iter().collect();
    for step in 0..60 {
        let mut one = || usize::try_from(random.below(5)).unwrap();
        let (who, whom) = (one(), names[one()]);
        let device = &devices[who];
        // Many of these are refused.
        match random.below(14) {
            0 | 1 => drop(soon(device.join_group(crew)).await),
            // The last member would end the group.
            2 if members_of(&present, crew).await.len() > 1 => {
                drop(soon(device.leave_group(crew)).await);
            }
            3 => drop(soon(device.kick_group_members([whom], crew)).await),
            4 | 5 => drop(soon(device.invite_users_into_group([whom], crew)).await),
            6 => {
                let role = 2 + random.below(3).cast_signed();
                drop(soon(device.set_group_member_role(role, whom, crew)).await);
            }
            7 => drop(soon(device.set_group_member_nickname(&step.to_string(), whom, crew)).await),
            8 => {
                let (is_mute, for_good) = (random.below(2) == 0, GroupMemberMuteConfig { duration: -1 });
                drop(soon(device.mute_group_members(is_mute, [whom], crew, for_good)).await);
            }
            9 => drop(soon(device.transfer_group_owner(whom, crew)).await),
            10 => drop(soon(device.send_to(group(crew), zim_protocol::Message::text("hi"))).await),
            11 => {
                if is_cut {
                    proxy.restore();
                } else {
                    proxy.cut();
                }
                is_cut = !is_cut;
            }
            12 => apps[0].load_more(1),
            _ => apps[1] = App::of_group(&devices[0], crew, 100).await,
        }
        let all = members_of(&present, crew).await;
        let is_in = all.iter().any(|member| member.user_id == bob);
        let expected = if is_in { all.as_slice() } else { &[] };
        apps[1].shows(expected).await;
        if !is_cut {
            apps[0].shows(expected).await;
        }
    }
    proxy
}

#[tokio::test]
async fn what_is_told_adds_up_to_the_members() {
    let world = World::new().await;
    // At once, because each waits for its connection to come back.
    let proxies = join_all((1..=3).map(|seed| change_at_random(&world, seed))).await;
    world.end().await;
    drop(proxies);
}
