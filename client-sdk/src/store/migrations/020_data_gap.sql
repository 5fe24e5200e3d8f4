-- What the profile lacks of its extended data. 0: nothing; 1: a profile came without it, so it may be older; 2: none has come.
ALTER TABLE user ADD COLUMN data_gap INTEGER NOT NULL DEFAULT 0;
