-- Groups that converge: what fork choice and repair need, and who carries a message for another.

-- Commits of every branch: when we came to its epoch, and why it is never chosen, if it is not
ALTER TABLE commits ADD COLUMN entered REAL;
ALTER TABLE commits ADD COLUMN invalid TEXT;
UPDATE commits SET entered = arrival WHERE epoch_id IS NOT NULL;

CREATE TABLE equivocations (          -- two statements of a device under one number
    group_id BLOB NOT NULL, device BLOB NOT NULL, first BLOB NOT NULL, second BLOB NOT NULL,
    PRIMARY KEY (group_id, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE welcomes (               -- to a branch of a group that we are in: a way to enter it
    group_id BLOB NOT NULL, commit_hash BLOB NOT NULL, body BLOB NOT NULL, arrival REAL NOT NULL,
    PRIMARY KEY (group_id, commit_hash)
) STRICT;

-- KeyPackages of the devices that a wish adds, each after its length (4 bytes, little-endian)
ALTER TABLE intents ADD COLUMN key_packages BLOB NOT NULL DEFAULT x'';
-- When one of ours was used: a Welcome of another branch may need it again
ALTER TABLE key_packages ADD COLUMN used REAL;

-- The device of the member who has a message and hands it on
ALTER TABLE ledger ADD COLUMN carrier BLOB;
-- The peer that handed an early parcel over
ALTER TABLE future ADD COLUMN via BLOB;

-- What was given up with a branch that may lose yet
CREATE INDEX ledger_gone ON ledger (group_id)
    WHERE state = 'refused' AND reason IN ('no-longer-a-member', 'not-a-member');
