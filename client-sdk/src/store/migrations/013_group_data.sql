-- The name that the user alone sees for a group.
ALTER TABLE chat_group ADD COLUMN alias TEXT NOT NULL DEFAULT '';

-- The user's own role in the group, and until when the user alone may not write, Unix milliseconds; 0: they may, -1: never again.
ALTER TABLE chat_group ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chat_group ADD COLUMN mute_until INTEGER NOT NULL DEFAULT 0;

-- Until when the user may not write, whatever the reason.
ALTER TABLE chat_group ADD COLUMN muted_until INTEGER NOT NULL DEFAULT 0;

-- The members that this device knows of. Their profiles are in `user`.
CREATE TABLE group_member (
    group_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- An encoded `GroupMemberInfo`.
    info BLOB NOT NULL,
    PRIMARY KEY (group_id, user_id)
) WITHOUT ROWID;

-- Applications to join groups, and to bring users into groups.
CREATE TABLE group_application (
    id INTEGER PRIMARY KEY,
    -- An encoded `GroupApplicationEntry`.
    entry BLOB NOT NULL,
    place INTEGER NOT NULL,
    -- The server has not named it since its positions were reset.
    is_stale INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX group_application_place ON group_application (place);
