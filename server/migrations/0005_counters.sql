-- How many rows a user has in these tables, so that a limit is checked without reading them. Each changes with its rows,
-- under the lock of the user's row.

ALTER TABLE account ADD COLUMN friend_count BIGINT NOT NULL DEFAULT 0;

ALTER TABLE account ADD COLUMN block_count BIGINT NOT NULL DEFAULT 0;

ALTER TABLE account ADD COLUMN subscription_count BIGINT NOT NULL DEFAULT 0;

UPDATE account SET
    friend_count = (SELECT COUNT(*) FROM friend WHERE friend.account = account.id),
    block_count = (SELECT COUNT(*) FROM block WHERE block.account = account.id),
    subscription_count = (SELECT COUNT(*) FROM subscription WHERE subscription.account = account.id);
