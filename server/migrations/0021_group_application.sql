-- Nothing waits for a member any more: what is left would let somebody in again who was removed. 1 is waiting, 5 is disabled.
UPDATE group_application SET state = 5 WHERE state = 1 AND EXISTS (SELECT 1 FROM group_member m
    WHERE m.conversation = group_application.conversation AND m.account = group_application.account);

-- Those who decide, the owner first.
DROP INDEX group_member_above;
CREATE INDEX group_member_above ON group_member (conversation, role, place) WHERE role <= 2;
