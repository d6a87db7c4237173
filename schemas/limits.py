"""Every limit on what is read from or written to the wire, in bytes unless the name says other."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Numbers: what SQLite, JSON and arithmetic can all hold
COUNTER: Final = (1 << 53) - 1

# Frames (ALPN quicnprotochat/p2p/1)
FRAME_BEFORE_HELLO: Final = 65_535  # an unknown peer may not make us buffer more
FRAME: Final = 1 * MIB

# Messages and parcels
MESSAGE_TEXT: Final = 64 * KIB
APPLICATION_MESSAGE: Final = 256 * KIB
PARCEL: Final = 512 * KIB
MESSAGE_PARENTS: Final = 8
SUMMARY_GAPS: Final = 32  # per author device
SUMMARY_AUTHORS: Final = 1000
PARCEL_SIZE_CLASSES: Final = (512, 1024, 2048, 4096, 8192, 16 * KIB, 32 * KIB, 64 * KIB)
PARCEL_SIZE_STEP: Final = 64 * KIB  # above the largest class
PARCEL_BODY: Final = 7 * PARCEL_SIZE_STEP - 4  # what fits when padded and sealed

# Signed records
ENDPOINT_RECORD: Final = 1 * KIB
ENDPOINT_ADDRESSES: Final = 8
ENDPOINT_RELAYS: Final = 4
ENDPOINT_LIFETIME_S: Final = 48 * 3600
BUNDLE: Final = 16 * KIB
BUNDLE_PRIVATE: Final = 512
BUNDLE_DEVICES: Final = 8
BUNDLE_RELAYS: Final = 8
RELAY_STATEMENT: Final = 4 * KIB
CARD: Final = 300
CARD_ADDRESSES: Final = 2
DISPLAY_NAME: Final = 64  # UTF-8 bytes
GROUP_NAME: Final = 128  # UTF-8 bytes
ADDRESS_TEXT: Final = 255  # "host:port"
RELAY_PROCESSES: Final = 8  # behind one relay's address
RELAY_PROCESSES_TEXT: Final = 512  # "host:port,host:port…"
RECORD_PROCESSES: Final = 3  # of each relay in an endpoint record: the first that its device takes

# DHT (ALPN quicnprotochat/dht/1)
DHT_RECORD: Final = ENDPOINT_RECORD + 256  # a signed endpoint record; each is padded to that
DHT_SEALED: Final = 12 + 4 + DHT_RECORD + 16  # nonce, length, padded record, tag
DHT_VALUE: Final = DHT_SEALED + 128  # payload of a signed value
DHT_VALUES: Final = 5  # under one key: four of a private cell and a public one
DHT_CONTACTS: Final = 20  # in one answer
DHT_HOST: Final = 64  # the longest IPv6 text is 45 characters
DHT_ERROR_TEXT: Final = 255
DHT_REQUEST: Final = 2 * KIB
DHT_RESPONSE: Final = 12 * KIB

# Groups
GROUP_DEVICES: Final = 250  # above: a typed refusal
TREE_CHUNK: Final = 128 * KIB
TREE_CHUNKS: Final = 16  # of one tree: 2 MiB, a hybrid group of over 1,000
GROUP_ADMINS: Final = 64
COMMIT_CHANGES: Final = 250  # devices added or removed by one commit
HEADS: Final = 1000  # headers, statements or proofs in one parcel
FUTURE_MESSAGES: Final = 1000  # per group, waiting for their epoch
FUTURE_BYTES: Final = 8 * MIB
SNAPSHOT_BYTES: Final = 16 * MIB
SNAPSHOT_EPOCHS: Final = 64
SNAPSHOT_AGE_S: Final = 7 * 86400

# Relay
MAILBOX_PARCELS: Final = 1000
MAILBOX_BYTES: Final = 64 * MIB
KEY_PACKAGES_PER_DEVICE: Final = 100
DELIVERY_TOKEN: Final = 32
DELIVERY_TOKENS: Final = 1000  # of one mailbox: contacts, groups and the card
KEY_PACKAGE: Final = 16 * KIB
BATCH_ITEMS: Final = 256
INTRODUCTION_KEY_PACKAGES: Final = 16
REQUEST_ID: Final = 16
BLOB_CHUNK: Final = 256 * KIB  # of an upload or a download; all of a blob but the last are whole

# Cap'n Proto readers: words are 8 bytes; a message may be walked over about four times
NESTING: Final = 16


def traversal_words(message_bytes: int) -> int:
    """The traversal limit for a message of that size: enough to read it, too little to bomb us."""
    return message_bytes // 8 * 4 + 1024
