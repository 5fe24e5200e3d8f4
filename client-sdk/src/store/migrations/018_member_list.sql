-- The place of a member in the list of the group; NULL: the member is known, but where they stand is not.
ALTER TABLE group_member ADD COLUMN place INTEGER;
CREATE INDEX group_member_by_place ON group_member (group_id, place) WHERE place IS NOT NULL;

-- The members up to this place are all known; NULL: the list was not loaded, or not followed since.
ALTER TABLE chat_group ADD COLUMN listed_to INTEGER;
