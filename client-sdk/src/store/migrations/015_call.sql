-- Calls that have not ended, as far as this device knows: it compares news with them.
CREATE TABLE call (
    call_id TEXT PRIMARY KEY,
    -- An encoded `CallEntry`.
    entry BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- The server has not named it since its positions were reset.
    is_stale INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
