-- How many bytes the files of an app take at most, so that an announcement need not add up those of all users.
CREATE TABLE media_total (
    app BIGINT PRIMARY KEY,
    -- What was counted, and what was announced since. What was removed since is not taken off.
    bytes BIGINT NOT NULL,
    -- When those of all users were added up.
    counted_at BIGINT NOT NULL
);
