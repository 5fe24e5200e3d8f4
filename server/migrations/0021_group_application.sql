-- Nothing waits for a member any more: what is left would let somebody in again who was removed. 1 is waiting, 5 is disabled. What had
-- expired when they entered stays so, as it does when somebody enters now.
UPDATE group_application SET state = 5 WHERE state = 1 AND EXISTS (SELECT 1 FROM group_member m
    WHERE m.conversation = group_application.conversation AND m.account = group_application.account
    AND m.entered_at < group_application.expires_at);

-- Those who decide, the owner first. Nodes of the build before go on with `group_member_above`: to drop it would wait for their reads, and
-- stop them.
CREATE INDEX group_member_rank ON group_member (conversation, role, place) WHERE role <= 2;
