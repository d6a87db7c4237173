-- Room that strangers cannot take: a mailbox is known a day after its owner first opened it.
ALTER TABLE mailboxes ADD COLUMN opened INTEGER;             -- when the owner first looked
ALTER TABLE mailboxes ADD COLUMN known INTEGER NOT NULL DEFAULT 0;
UPDATE mailboxes SET known = 1;
CREATE INDEX mailboxes_to_know ON mailboxes (opened) WHERE known = 0 AND opened IS NOT NULL;
CREATE INDEX mailboxes_unused ON mailboxes (id) WHERE known = 0 AND opened IS NULL AND parcels = 0;

-- first_seq: where new mailboxes start to count. is_backup: this file is a copy; see backup.py.
-- probed: written to see whether the disk takes writes.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

-- What was taken out of a mailbox because its checksum is wrong, for the operator to look at.
CREATE TABLE damaged (
    recipient BLOB NOT NULL,
    channel BLOB NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    found INTEGER NOT NULL
) STRICT;
