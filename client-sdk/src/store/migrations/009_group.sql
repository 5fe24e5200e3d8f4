-- The first message of the user's present stay in a group; 0: not known.
ALTER TABLE conversation ADD COLUMN from_seq INTEGER NOT NULL DEFAULT 0;

-- Events about members were raised up to this change.
ALTER TABLE conversation ADD COLUMN roster_rev INTEGER NOT NULL DEFAULT 0;

-- The groups that this device knows.
CREATE TABLE chat_group (
    group_id TEXT PRIMARY KEY,
    group_name TEXT NOT NULL,
    avatar_url TEXT NOT NULL,
    -- An encoded `GroupFullInfo`.
    info BLOB NOT NULL
) WITHOUT ROWID;
