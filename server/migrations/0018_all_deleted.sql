-- Conversations of a deletion of all that has not ended: they count for its event, even if the server stops in between.
ALTER TABLE all_deleted ADD COLUMN begun BIGINT NOT NULL DEFAULT 0;
