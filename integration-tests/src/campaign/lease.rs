//! What a run on several nodes keeps of their leases and clocks, and its invariants: a node stores nothing after its lease, and
//! stored times are those of the database.

use super::checks::EndState;
use super::store::Store;

/// The name of the check that nothing is written after the lease.
pub(super) const LATE: &str = "written_after_the_lease";
/// Notes commits of nodes whose number was taken from them. It is known when the transaction ends, because who takes a number waits
/// for the commits of its node. If a commit is refused, its note is gone as well.
const WATCH: &str = "CREATE TABLE campaign_late (node TEXT NOT NULL, what TEXT NOT NULL);
CREATE FUNCTION campaign_late() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    node TEXT := substring(current_setting('application_name') FROM '^zim-server store ([0-9]+)$');
    held RECORD;
    first TEXT := COALESCE(current_setting('campaign.generation', true), '');
BEGIN
    IF node IS NULL THEN RETURN NULL; END IF;
    SELECT generation, lease_until INTO held FROM server_node WHERE number = CAST(node AS BIGINT);
    IF first = '' THEN
        first := CAST(held.generation AS TEXT);
        PERFORM set_config('campaign.generation', first, false);
    END IF;
    IF held.lease_until <= 0 OR CAST(held.generation AS TEXT) <> first THEN
        INSERT INTO campaign_late VALUES (node, TG_OP || ' ' || TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END $$;";
/// Where it looks.
const TABLES: [&str; 8] =
    ["message", "session", "account", "friend", "group_member", "room_member", "chat_call", "task_effect"];
/// How far a stored time may be outside of a run, milliseconds. The clocks of nodes are further off.
const TOLERANCE_MS: i64 = 60_000;

/// Begins to note late commits, in a database with tables.
///
/// # Errors
/// The database refuses.
pub(super) fn watch(store: &Store) -> anyhow::Result<()> {
    let triggers = TABLES.map(|table| {
        format!(
            "CREATE CONSTRAINT TRIGGER campaign_late AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION campaign_late();"
        )
    });
    store.rows(&format!("{WATCH} {}", triggers.join(" "))).map(drop)
}

/// Returns the late commits, by node and what they changed.
///
/// # Errors
/// The database cannot be read.
pub(super) fn late(store: &Store) -> anyhow::Result<Vec<String>> {
    let rows =
        store.rows("SELECT node, what, CAST(COUNT(*) AS TEXT) FROM campaign_late GROUP BY 1, 2 ORDER BY 1, 2")?;
    Ok(rows.iter().map(|row| format!("node number {}: {} ({} times)", row[0], row[1], row[2])).collect())
}

pub(super) fn written_after_the_lease(end: &EndState) -> Vec<String> {
    end.late.clone()
}

pub(super) fn clock_not_followed(end: &EndState) -> Vec<String> {
    if end.plan.nodes == 1 {
        return Vec::new();
    }
    let (begun, ended) = end.lasted_ms;
    let is_wrong = |ts: i64| !(begun - TOLERANCE_MS..=ended + TOLERANCE_MS).contains(&ts);
    let messages = end.kept.iter().flat_map(|kept| &kept.messages).filter(|message| is_wrong(message.ts));
    messages.map(|message| format!("{message:?}; the run lasted from {begun} to {ended}")).collect()
}
