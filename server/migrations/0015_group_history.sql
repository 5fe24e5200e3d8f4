-- The first position after a member entered: with the history for new members, their stay begins before it. 0: as the stay.
ALTER TABLE member ADD COLUMN entered_seq BIGINT NOT NULL DEFAULT 0;
