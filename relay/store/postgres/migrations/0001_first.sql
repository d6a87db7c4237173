-- Mailboxes stay when they are empty: their sequence numbers must never go back.
-- next_seq 0: not begun; it begins at first_seq (see meta), read once the row is ours.
-- What enqueue changes is in no index, so that its updates stay in the page (HOT).
CREATE TABLE mailboxes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recipient bytea NOT NULL,
    channel bytea NOT NULL,             -- empty, or 16 bytes
    next_seq bigint NOT NULL DEFAULT 0,
    parcels bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    refused_since bigint,               -- when a parcel was first refused for want of room
    opened bigint,                      -- when the owner first looked
    known boolean NOT NULL DEFAULT false,
    guarded boolean NOT NULL DEFAULT false, -- takes nothing without a delivery token
    UNIQUE (recipient, channel)
) WITH (fillfactor = 70);
CREATE INDEX mailboxes_to_know ON mailboxes (opened) WHERE NOT known AND opened IS NOT NULL;
CREATE INDEX mailboxes_unused ON mailboxes (id) WHERE NOT known AND opened IS NULL;

-- No foreign key: it would cost a look per parcel, and whoever writes here has locked the mailbox.
CREATE TABLE parcels (
    mailbox bigint NOT NULL,
    seq bigint NOT NULL,
    id bytea NOT NULL,
    expires bigint NOT NULL,
    checksum bigint NOT NULL,           -- CRC-32 of sealed, against a disk that lies
    sealed bytea NOT NULL,
    token bigint,                       -- the delivery token that it came with, if any
    PRIMARY KEY (mailbox, seq),
    UNIQUE (mailbox, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
ALTER TABLE parcels ALTER COLUMN sealed SET STORAGE EXTERNAL; -- ciphertext does not compress
CREATE INDEX parcels_by_expiry ON parcels (expires);

-- Delivery tokens: see relay/store/delivery_tokens.py. Changed under the lock of the mailbox.
CREATE TABLE delivery_tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device bytea NOT NULL,
    hash bytea NOT NULL,                -- SHA-256 of the token
    parcels bigint NOT NULL DEFAULT 0,  -- that wait in the mailbox and came with it
    bytes bigint NOT NULL DEFAULT 0,
    UNIQUE (device, hash)
) WITH (fillfactor = 70);

-- How much the whole store holds is the sum over the shards: a single row would make every
-- transaction wait for the fsync of the one before.
CREATE TABLE usage (
    shard integer PRIMARY KEY,
    mailboxes bigint NOT NULL DEFAULT 0,
    strangers bigint NOT NULL DEFAULT 0,
    parcels bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    strangers_bytes bigint NOT NULL DEFAULT 0,
    directory_bytes bigint NOT NULL DEFAULT 0,
    strangers_directory_bytes bigint NOT NULL DEFAULT 0,
    blobs bigint NOT NULL DEFAULT 0,
    blob_bytes bigint NOT NULL DEFAULT 0,
    strangers_blob_bytes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO usage (shard) SELECT generate_series(0, 15);

-- One that was handed out stays for a while without its bytes, so that it is never handed out twice.
CREATE TABLE key_packages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device bytea NOT NULL,
    suite integer NOT NULL,
    fingerprint bytea NOT NULL,         -- SHA-256 of package
    last_resort boolean NOT NULL,
    package bytea,
    taken bigint,
    UNIQUE (device, fingerprint)
);
ALTER TABLE key_packages ALTER COLUMN package SET STORAGE EXTERNAL;
CREATE INDEX key_packages_in_stock ON key_packages (device, suite, last_resort, id)
    WHERE package IS NOT NULL;
CREATE INDEX key_packages_by_age ON key_packages (taken) WHERE taken IS NOT NULL;

CREATE TABLE kp_requests (
    device bytea NOT NULL,
    suite integer NOT NULL,
    request bytea NOT NULL,
    answer bytea,                       -- null: the last resort
    until bigint NOT NULL,
    PRIMARY KEY (device, suite, request)
);
ALTER TABLE kp_requests ALTER COLUMN answer SET STORAGE EXTERNAL;
CREATE INDEX kp_requests_by_expiry ON kp_requests (until);

CREATE TABLE hybrid_keys (
    device bytea PRIMARY KEY,
    hybrid_key bytea NOT NULL,
    signature bytea NOT NULL
);

CREATE TABLE bundles (
    identity bytea PRIMARY KEY,
    number bigint NOT NULL,
    signed bytea NOT NULL
);

-- Where people read their mail now.
CREATE TABLE relay_statements (
    identity bytea PRIMARY KEY,
    number bigint NOT NULL,
    signed bytea NOT NULL
);

CREATE TABLE endpoints (
    device bytea PRIMARY KEY,
    sequence bigint NOT NULL,
    expires bigint NOT NULL,
    signed bytea NOT NULL
);
CREATE INDEX endpoints_by_expiry ON endpoints (expires);

-- Whose the rows of the directory are, a device's or an identity's: see relay/store/rules.py.
CREATE TABLE directory_owners (
    owner bytea PRIMARY KEY,
    device bytea NOT NULL,              -- which brought something of theirs last; empty once forgotten
    renewed bigint NOT NULL,
    stranger boolean NOT NULL           -- not known when something of theirs came last
);
CREATE INDEX directory_owners_by_age ON directory_owners (renewed);
CREATE INDEX directory_owners_by_device ON directory_owners (device);

-- first_seq: where new mailboxes start to count. probed: written to see whether writes are taken.
CREATE TABLE meta (
    name text PRIMARY KEY,
    value bigint NOT NULL
);

-- Which server and database this is; another one than it was: these data were restored there.
CREATE TABLE home (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    place text NOT NULL
);

-- What was taken out of a mailbox because its checksum is wrong, for the operator to look at.
CREATE TABLE damaged (
    recipient bytea NOT NULL,
    channel bytea NOT NULL,
    seq bigint NOT NULL,
    id bytea NOT NULL,
    found bigint NOT NULL
);


-- The processes that share these data, and the key that all of them are known by.
CREATE TABLE processes (
    address text PRIMARY KEY,           -- HOST:PORT, where nodes reach it
    run bytea NOT NULL,                 -- another one each time that it starts
    former bytea,                       -- the run before, which may not know that it is over
    version text NOT NULL,
    started bigint NOT NULL,
    seen double precision NOT NULL,     -- Unix seconds, by this server's clock
    withdrawn boolean NOT NULL DEFAULT false
);
CREATE TABLE relay_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seed bytea NOT NULL                 -- of the Ed25519 key
);

-- Plans are made once, maybe while the tables are empty: each row is looked up by the index that finds
-- it alone, whatever the statistics say.
--
-- Every function locks the mailboxes that it changes in the order of (recipient, channel), after it
-- has made what is missing and before it looks at parcels, and its row of usage last: so no two wait
-- for each other, and each statement behind the locks sees what others have committed.

-- Deletes parcels of mailboxes that are locked; the answer is the places of those that there were.
CREATE FUNCTION delete_parcels(
    in_shard integer, in_mailboxes bigint[], in_seqs bigint[], OUT places bigint[]
) LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET random_page_cost = 1 SET cpu_index_tuple_cost = 0.1
AS $$
DECLARE
    released record;
BEGIN
    WITH gone AS (
        DELETE FROM parcels p USING unnest(in_mailboxes, in_seqs) WITH ORDINALITY
                AS i (mailbox, seq, n)
            WHERE p.mailbox = i.mailbox AND p.seq = i.seq
            RETURNING i.n, p.mailbox, p.token, octet_length(p.sealed) AS size
    ), refunded AS (
        UPDATE delivery_tokens t SET parcels = t.parcels - s.parcels, bytes = t.bytes - s.bytes
            FROM (SELECT token, count(*) AS parcels, sum(size) AS bytes FROM gone
                WHERE token IS NOT NULL GROUP BY token) s
            WHERE t.id = s.token
    ), freed AS (
        UPDATE mailboxes m SET parcels = m.parcels - s.parcels, bytes = m.bytes - s.bytes
            FROM (SELECT mailbox, count(*) AS parcels, sum(size) AS bytes FROM gone
                GROUP BY mailbox) s
            WHERE m.id = s.mailbox
            RETURNING s.parcels, s.bytes, m.known
    )
    SELECT ARRAY(SELECT n FROM gone ORDER BY n) AS places, sum(parcels) AS parcels,
           sum(bytes) AS bytes, coalesce(sum(bytes) FILTER (WHERE NOT known), 0) AS strangers
        INTO released FROM freed;
    places := released.places;
    IF released.parcels > 0 THEN
        UPDATE usage u SET parcels = u.parcels - released.parcels,
                bytes = u.bytes - released.bytes,
                strangers_bytes = u.strangers_bytes - released.strangers
            WHERE u.shard = in_shard;
    END IF;
END $$;

-- Forgets parcels, given as columns, none twice; the answer is the places of those that there were.
CREATE FUNCTION forget_parcels(
    in_shard integer, in_recipients bytea[], in_channels bytea[], in_seqs bigint[],
    OUT places bigint[]
) LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET random_page_cost = 1 SET cpu_index_tuple_cost = 0.1
AS $$
BEGIN
    PERFORM FROM mailboxes m WHERE (m.recipient, m.channel) IN (
            SELECT i.recipient, i.channel FROM unnest(in_recipients, in_channels)
                AS i (recipient, channel))
        ORDER BY m.recipient, m.channel FOR NO KEY UPDATE;
    places := delete_parcels(in_shard, ARRAY(
        SELECT m.id FROM unnest(in_recipients, in_channels) WITH ORDINALITY
                AS i (recipient, channel, n)
            LEFT JOIN mailboxes m ON m.recipient = i.recipient AND m.channel = i.channel
            ORDER BY i.n), in_seqs);
END $$;

-- Deletes up to in_limit parcels that have expired; how many there were.
CREATE FUNCTION expire_parcels(in_now bigint, in_shard integer, in_limit integer) RETURNS bigint
LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET random_page_cost = 1 SET cpu_index_tuple_cost = 0.1
AS $$
DECLARE
    locked bigint[];
    old_mailboxes bigint[];
    old_seqs bigint[];
BEGIN
    locked := ARRAY(
        SELECT m.id FROM mailboxes m WHERE m.id IN (
                SELECT p.mailbox FROM parcels p WHERE p.expires <= in_now
                    ORDER BY p.expires LIMIT in_limit)
            ORDER BY m.recipient, m.channel FOR NO KEY UPDATE);
    SELECT array_agg(o.mailbox), array_agg(o.seq) INTO old_mailboxes, old_seqs FROM (
        SELECT p.mailbox, p.seq FROM parcels p
            WHERE p.expires <= in_now AND p.mailbox = ANY (locked)
            ORDER BY p.expires LIMIT in_limit) o;
    RETURN cardinality(delete_parcels(
        in_shard, coalesce(old_mailboxes, '{}'), coalesce(old_seqs, '{}')));
END $$;

-- Keeps parcels, given as columns; no parcel id twice for one mailbox. An owner brings parcels to a
-- mailbox of their own; in_tokens holds hashes, or nulls. The answer has a place for each parcel: its
-- number, if it is kept now or was before (then with the expiry of then); else a code: 1 the mailbox is
-- full; 2 the relay is full; 3 the bringer is refused; 4 the token's share is used up; 5 there is no
-- mailbox, and may be none.
CREATE FUNCTION enqueue_parcels(
    in_now bigint, in_shard integer,
    in_recipients bytea[], in_channels bytea[], in_ids bytea[], in_expires bigint[],
    in_sizes bigint[], in_checksums bigint[], in_sealed bytea[],
    in_owners boolean[], in_admitted boolean[], in_making boolean[], in_tokens bytea[],
    in_mailbox_parcels bigint, in_mailbox_bytes bigint,
    in_token_parcels bigint, in_token_bytes bigint,
    in_total_bytes bigint, in_strangers_bytes bigint,
    in_total_mailboxes bigint, in_strangers bigint,
    in_notices text[],
    OUT codes integer[], OUT seqs bigint[], OUT expiries bigint[]
) LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET random_page_cost = 1 SET cpu_index_tuple_cost = 0.1
AS $$
DECLARE
    none bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(in_ids)]);
    held record;
    item record;
    first_seq bigint;
    room bigint;
    room_strangers bigint;
    entitled boolean;
    at integer;
    -- The mailbox at hand
    box bigint;
    box_next bigint;
    box_parcels bigint;
    box_bytes bigint;
    box_refused bigint;
    -- What is written back: a place for each mailbox,
    to_ids bigint[];
    to_next bigint[];
    to_parcels bigint[];
    to_bytes bigint[];
    to_refused bigint[];
    -- a place for each token,
    to_tokens bigint[];
    to_token_parcels bigint[];
    to_token_bytes bigint[];
    -- and for each parcel, null unless it is kept now
    new_boxes bigint[];
    new_tokens bigint[];
    full_boxes bigint[];
    more_mailboxes bigint := 0;
    made bigint;
    more_parcels bigint;
BEGIN
    SELECT sum(u.mailboxes) AS mailboxes, sum(u.strangers) AS strangers, sum(u.bytes) AS bytes,
           sum(u.strangers_bytes) AS strangers_bytes INTO held FROM usage u;
    -- A mailbox that is being swept away is there while it is looked for, and gone once it could be
    -- locked: then it is made anew.
    FOR attempt IN 1..3 LOOP
        INSERT INTO mailboxes (recipient, channel)
            SELECT DISTINCT i.recipient, i.channel
                FROM unnest(in_recipients, in_channels, in_owners, in_admitted, in_making)
                    AS i (recipient, channel, owner, admitted, making)
                WHERE (i.owner OR i.admitted) AND i.making AND NOT EXISTS (SELECT FROM mailboxes m
                    WHERE m.recipient = i.recipient AND m.channel = i.channel)
                ORDER BY i.recipient, i.channel
                LIMIT greatest(0, least(in_total_mailboxes - held.mailboxes,
                    in_strangers - held.strangers) - more_mailboxes)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS made = ROW_COUNT;
        more_mailboxes := more_mailboxes + made;
        PERFORM FROM mailboxes m WHERE (m.recipient, m.channel) IN (
                SELECT i.recipient, i.channel FROM unnest(in_recipients, in_channels)
                    AS i (recipient, channel))
            ORDER BY m.recipient, m.channel FOR NO KEY UPDATE;
        GET DIAGNOSTICS made = ROW_COUNT;
        EXIT WHEN made = (SELECT count(DISTINCT (i.recipient, i.channel))
            FROM unnest(in_recipients, in_channels) AS i (recipient, channel));
    END LOOP;
    first_seq := coalesce((SELECT value FROM meta WHERE name = 'first_seq'), 1);

    -- Decide. Where room is wanting, expired parcels make some, and all is decided anew.
    FOR attempt IN 1..2 LOOP
        codes := ARRAY(
            SELECT CASE WHEN NOT (i.owner OR i.admitted) THEN 3 WHEN NOT i.making THEN 5 ELSE 2 END
                FROM unnest(in_owners, in_admitted, in_making) WITH ORDINALITY
                    AS i (owner, admitted, making, n)
                ORDER BY i.n);
        seqs := none; expiries := none; new_boxes := none; new_tokens := none;
        box := NULL; full_boxes := '{}';
        to_ids := '{}'; to_next := '{}'; to_parcels := '{}'; to_bytes := '{}'; to_refused := '{}';
        to_tokens := '{}'; to_token_parcels := '{}'; to_token_bytes := '{}';
        room := in_total_bytes - held.bytes;
        room_strangers := in_strangers_bytes - held.strangers_bytes;
        FOR item IN
            SELECT i.n, i.size, i.owner, i.admitted, m.id AS box, m.next_seq, m.parcels,
                   m.bytes, m.known, m.guarded, t.id AS token, t.parcels AS token_parcels,
                   t.bytes AS token_bytes, p.seq AS held_seq, p.expires AS held_expires
                FROM unnest(in_recipients, in_channels, in_ids, in_sizes, in_owners,
                            in_admitted, in_tokens) WITH ORDINALITY
                    AS i (recipient, channel, id, size, owner, admitted, token, n)
                JOIN mailboxes m ON m.recipient = i.recipient AND m.channel = i.channel
                LEFT JOIN parcels p ON p.mailbox = m.id AND p.id = i.id
                LEFT JOIN delivery_tokens t
                    ON t.device = i.recipient AND t.hash = i.token AND i.channel = ''
                ORDER BY m.id, i.n
        LOOP
            IF box IS DISTINCT FROM item.box THEN
                IF box IS NOT NULL THEN
                    to_ids := to_ids || box;
                    to_next := to_next || box_next;
                    to_parcels := to_parcels || box_parcels;
                    to_bytes := to_bytes || box_bytes;
                    to_refused := to_refused || box_refused;
                END IF;
                box := item.box;
                box_next := CASE item.next_seq WHEN 0 THEN first_seq ELSE item.next_seq END;
                box_parcels := item.parcels;
                box_bytes := item.bytes;
                box_refused := NULL;
            END IF;
            at := NULL;
            entitled := item.owner;
            IF item.token IS NOT NULL THEN
                at := array_position(to_tokens, item.token);
                IF at IS NULL THEN
                    at := cardinality(to_tokens) + 1;
                    to_tokens[at] := item.token;
                    to_token_parcels[at] := item.token_parcels;
                    to_token_bytes[at] := item.token_bytes;
                END IF;
                IF item.held_expires > in_now OR (to_token_parcels[at] < in_token_parcels
                        AND to_token_bytes[at] + item.size <= in_token_bytes) THEN
                    entitled := true;
                ELSE
                    at := NULL;
                END IF;
            END IF;
            IF NOT entitled AND (item.guarded OR NOT item.admitted) THEN
                codes[item.n] := CASE WHEN item.token IS NULL THEN 3 ELSE 4 END;
                IF item.token IS NOT NULL THEN
                    box_refused := in_now;
                    full_boxes := full_boxes || item.box;
                END IF;
            ELSIF item.held_expires > in_now THEN
                seqs[item.n] := item.held_seq;
                expiries[item.n] := item.held_expires;
            ELSIF item.held_seq IS NOT NULL OR box_parcels >= in_mailbox_parcels
                    OR box_bytes + item.size > in_mailbox_bytes THEN
                codes[item.n] := 1;
                box_refused := in_now;
                full_boxes := full_boxes || item.box;
            ELSIF item.size > room OR (NOT item.known AND item.size > room_strangers) THEN
                codes[item.n] := 2;
                full_boxes := full_boxes || item.box;
            ELSE
                seqs[item.n] := box_next;
                new_boxes[item.n] := box;
                box_next := box_next + 1;
                box_parcels := box_parcels + 1;
                box_bytes := box_bytes + item.size;
                room := room - item.size;
                IF NOT item.known THEN
                    room_strangers := room_strangers - item.size;
                END IF;
                IF at IS NOT NULL THEN
                    new_tokens[item.n] := item.token;
                    to_token_parcels[at] := to_token_parcels[at] + 1;
                    to_token_bytes[at] := to_token_bytes[at] + item.size;
                END IF;
            END IF;
        END LOOP;
        EXIT WHEN attempt = 2 OR full_boxes = '{}';
        SELECT array_agg(p.mailbox) AS boxes, array_agg(p.seq) AS seqs INTO item FROM parcels p
            WHERE p.mailbox = ANY (full_boxes) AND p.expires <= in_now;
        EXIT WHEN item.boxes IS NULL;
        PERFORM delete_parcels(in_shard, item.boxes, item.seqs);
        SELECT sum(u.bytes) AS bytes, sum(u.strangers_bytes) AS strangers_bytes INTO held
            FROM usage u;
    END LOOP;

    INSERT INTO parcels (mailbox, seq, id, expires, checksum, sealed, token)
        SELECT i.box, i.seq, i.id, i.expires, i.checksum, i.sealed, i.token
            FROM unnest(new_boxes, seqs, in_ids, in_expires, in_checksums, in_sealed, new_tokens)
                AS i (box, seq, id, expires, checksum, sealed, token)
            WHERE i.box IS NOT NULL;
    GET DIAGNOSTICS more_parcels = ROW_COUNT;
    UPDATE mailboxes m SET next_seq = t.next_seq, parcels = t.parcels, bytes = t.bytes,
            refused_since = coalesce(m.refused_since, t.refused)
        FROM unnest(to_ids || box, to_next || box_next, to_parcels || box_parcels,
                    to_bytes || box_bytes, to_refused || box_refused)
            AS t (id, next_seq, parcels, bytes, refused)
        WHERE m.id = t.id;
    IF to_tokens <> '{}' THEN
        UPDATE delivery_tokens d SET parcels = t.parcels, bytes = t.bytes
            FROM unnest(to_tokens, to_token_parcels, to_token_bytes) AS t (id, parcels, bytes)
            WHERE d.id = t.id;
    END IF;
    UPDATE usage u SET mailboxes = u.mailboxes + more_mailboxes,
            strangers = u.strangers + more_mailboxes, parcels = u.parcels + more_parcels,
            bytes = u.bytes + (in_total_bytes - held.bytes - room), strangers_bytes =
                u.strangers_bytes + (in_strangers_bytes - held.strangers_bytes - room_strangers)
        WHERE u.shard = in_shard;
    PERFORM pg_notify('relay_mail', notice) FROM unnest(in_notices) AS notice;
END $$;

-- The audit log: see relay/store/audit.py. Subject and salt are null once they were erased.
CREATE TABLE audit (
    number bigint PRIMARY KEY,
    time bigint NOT NULL,
    event text NOT NULL,
    subject text,
    salt bytea,
    commitment bytea NOT NULL,
    hash bytea NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject text_pattern_ops) WHERE subject IS NOT NULL;
CREATE INDEX audit_by_time ON audit (time);
-- What the first row follows, after trimming; and the last row, which whoever appends locks.
CREATE TABLE audit_places (name text PRIMARY KEY, number bigint NOT NULL, hash bytea NOT NULL);
INSERT INTO audit_places (name, number, hash)
    SELECT name, 0, sha256('quicnprotochat relay audit v1') FROM unnest('{begin, head}'::text[]) AS name;

-- Accounts: an identity with a name, the record of its password (OPAQUE), and devices.
CREATE TABLE relay_secrets (
    name text PRIMARY KEY,              -- opaque-setup: without it no record can be used
    value bytea NOT NULL
);
CREATE TABLE accounts (
    identity bytea PRIMARY KEY,
    name text NOT NULL UNIQUE,          -- in its normal form
    record bytea NOT NULL,              -- 1 byte, the version of the key stretching, and OPAQUE's
    made bigint NOT NULL,
    invite bytea                        -- the one it was made with
);
CREATE INDEX accounts_by_invite ON accounts (invite) WHERE invite IS NOT NULL;
CREATE TABLE account_devices (
    device bytea PRIMARY KEY,
    identity bytea NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    name text NOT NULL,
    registered bigint NOT NULL,
    revoked bigint                      -- when; it stays so that it stays out
);
CREATE INDEX account_devices_by_identity ON account_devices (identity, registered);
CREATE TABLE sessions (
    device bytea PRIMARY KEY,           -- one at a time; need not be one of the account's devices
    identity bytea NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    token bytea NOT NULL,               -- SHA-256
    issued bigint NOT NULL,
    expires bigint NOT NULL
);
CREATE INDEX sessions_by_identity ON sessions (identity, issued);
CREATE INDEX sessions_by_expiry ON sessions (expires);
CREATE TABLE invites (
    token bytea PRIMARY KEY,            -- SHA-256
    uses bigint NOT NULL,
    used bigint NOT NULL DEFAULT 0,
    made bigint NOT NULL,
    expires bigint NOT NULL
);
CREATE INDEX invites_by_expiry ON invites (expires);

-- Channels: an id for each pair of devices. A member that was forgotten is null.
CREATE TABLE channels (
    id bytea PRIMARY KEY,
    low bytea,
    high bytea,
    maker bytea,                        -- the one of them that asked for it: it counts for that one
    UNIQUE (low, high)
);
CREATE INDEX channels_by_high ON channels (high);
CREATE INDEX channels_by_maker ON channels (maker) WHERE maker IS NOT NULL;

-- Blobs: sealed bytes of any kind, in chunks of 256 KiB. Each device's upload is a row of its own,
-- so nobody's wrong bytes spoil another's. What is dropped gets a random id and `expires` 0, and its
-- chunks go in small transactions.
CREATE TABLE blobs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bytea NOT NULL,                  -- SHA-256 of all the bytes
    device bytea NOT NULL,              -- who uploads it, and whose quota it takes
    total bigint NOT NULL,
    received bigint NOT NULL DEFAULT 0,
    whole boolean NOT NULL DEFAULT false, -- all there, and they are what the id says
    stranger boolean NOT NULL,          -- its device was not known here when it began
    expires bigint NOT NULL,
    UNIQUE (device, id)
);
CREATE INDEX blobs_to_read ON blobs (id, expires) WHERE whole;
CREATE INDEX blobs_by_expiry ON blobs (expires);
CREATE TABLE blob_chunks (
    blob bigint NOT NULL REFERENCES blobs (number),
    part integer NOT NULL,              -- 0, 1, 2, …
    checksum bigint NOT NULL,           -- CRC-32, against a disk that lies
    data bytea NOT NULL,
    PRIMARY KEY (blob, part)
);
ALTER TABLE blob_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
