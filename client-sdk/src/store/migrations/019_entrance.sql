-- The first change of the user's stay in a group; 0: not known.
ALTER TABLE conversation ADD COLUMN from_rev INTEGER NOT NULL DEFAULT 0;
