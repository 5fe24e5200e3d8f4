-- How the texts in the search index are folded (see store/search.rs). 0: as before there was a number.
ALTER TABLE device ADD COLUMN folding INTEGER NOT NULL DEFAULT 0;
