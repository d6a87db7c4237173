-- Encryption at rest, key rotation, blocking, fairness: what the second issue added.

-- People whose words are not wanted, and what contacts told us alone
CREATE TABLE blocked (identity BLOB PRIMARY KEY, since REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE bundle_privates (
    identity BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    discovery_secret BLOB NOT NULL,
    delivery_token BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_identity ON members (identity);

-- Parts of ratchet trees that travel beside a Welcome; data is NULL while one is awaited
CREATE TABLE tree_chunks (
    digest BLOB PRIMARY KEY, wanted INTEGER NOT NULL, arrival REAL NOT NULL, data BLOB
) STRICT;

-- When our leaf in a group is to be refreshed; NULL while nobody spoke since the last time
CREATE TABLE key_updates (
    group_id BLOB PRIMARY KEY, lamport INTEGER NOT NULL, due REAL
) STRICT, WITHOUT ROWID;


-- Receipts and the welcome that a speaker no longer needs, found without a walk over the backlog
CREATE INDEX payloads_by_kind ON payloads (group_id, kind) WHERE kind <> 'message';
CREATE INDEX ledger_open ON ledger (group_id, device, sequence)
    WHERE state IN ('queued', 'sent', 'held', 'carried');
CREATE INDEX ledger_delivered ON ledger (group_id, device, sequence) WHERE state = 'delivered';
DROP INDEX ledger_by_device;

-- What is due for a device, group by group, without sorting the backlog
ALTER TABLE outbox ADD COLUMN group_id BLOB;
UPDATE outbox SET group_id = (SELECT group_id FROM payloads WHERE id = payload);
CREATE INDEX outbox_queued ON outbox (recipient, group_id, payload) WHERE stage = 'queued';

-- Nothing is looked up by it, and its random keys dirty a page for each message
DROP INDEX messages_by_id;

-- By arrival within a group: reading what is new does not walk over what is old
CREATE INDEX messages_by_group ON messages (group_id);
