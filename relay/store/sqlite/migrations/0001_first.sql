-- Mailboxes stay when they are empty: their sequence numbers must never go back.
CREATE TABLE mailboxes (
    id INTEGER PRIMARY KEY,
    recipient BLOB NOT NULL,
    channel BLOB NOT NULL,              -- empty, or 16 bytes
    next_seq INTEGER NOT NULL DEFAULT 1,
    parcels INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    refused_since INTEGER,              -- when a parcel was first refused for want of room
    UNIQUE (recipient, channel)
) STRICT;

CREATE TABLE parcels (
    mailbox INTEGER NOT NULL REFERENCES mailboxes (id),
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    expires INTEGER NOT NULL,
    checksum INTEGER NOT NULL,          -- CRC-32 of sealed, against a disk that lies
    sealed BLOB NOT NULL,
    PRIMARY KEY (mailbox, seq),
    UNIQUE (mailbox, id)
) STRICT;
CREATE INDEX parcels_by_expiry ON parcels (expires);

-- One that was handed out stays for a while without its bytes, so that it is never handed out twice.
CREATE TABLE key_packages (
    id INTEGER PRIMARY KEY,
    device BLOB NOT NULL,
    suite INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,          -- SHA-256 of package
    last_resort INTEGER NOT NULL,
    package BLOB,
    taken INTEGER,
    UNIQUE (device, fingerprint)
) STRICT;
CREATE INDEX key_packages_in_stock ON key_packages (device, suite, last_resort, id)
    WHERE package IS NOT NULL;
CREATE INDEX key_packages_by_age ON key_packages (taken) WHERE taken IS NOT NULL;

CREATE TABLE kp_requests (
    request BLOB NOT NULL,
    device BLOB NOT NULL,
    suite INTEGER NOT NULL,
    answer BLOB,                        -- null: the last resort
    until INTEGER NOT NULL,
    PRIMARY KEY (device, suite, request)
) STRICT;
CREATE INDEX kp_requests_by_expiry ON kp_requests (until);

CREATE TABLE hybrid_keys (
    device BLOB PRIMARY KEY,
    hybrid_key BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;

CREATE TABLE bundles (
    identity BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    signed BLOB NOT NULL
) STRICT;

CREATE TABLE endpoints (
    device BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    signed BLOB NOT NULL
) STRICT;
CREATE INDEX endpoints_by_expiry ON endpoints (expires);
