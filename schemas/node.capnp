@0xa4d90c72e3b5f816;
# Node to relay (ALPN capnp): Cap'n Proto RPC on one bidirectional stream.
# Every result carries `error`; an empty code means success. Keys named identityKey and
# recipientKey hold DEVICE keys (the names are the seed system's), except in resolveIdentity.
# `refusedSince`: Unix seconds when the mailbox first refused a parcel for being full; 0: it did not.
# `clockMs`: the relay's wall clock in Unix milliseconds. `processes`: HOST:PORT of each process that
# serves these mailboxes under this key; empty: there is this one.
# `accessToken`: for a registration the invite token, or `auth_token`; afterwards what a login gave.
# `request`, `response`, `upload`, `finalization`: one byte, the version of the key stretching, then
# OPAQUE's message (RFC 9807). `credential`: the identity's signature over the caller's device key,
# "quicnprotochat device v1".

using Record = import "record.capnp";
using Frame = import "frame.capnp";

struct Auth {
  version @0 :UInt16;
  accessToken @1 :Data;
  deviceId @2 :Data;
}

struct StoredParcel {
  sequence @0 :UInt64;
  id @1 :Data;
  expires @2 :Int64;
  sealed @3 :Data;
}

struct EnqueueItem {
  recipientKey @0 :Data;
  channelId @1 :Data;   # empty, or 16 bytes
  id @2 :Data;
  expires @3 :Int64;    # Unix seconds; the relay's own limit applies as well
  sealed @4 :Data;
  token @5 :Data;       # empty, or the delivery token that the recipient gave (32 bytes)
}

struct EnqueueResult {
  sequence @0 :UInt64;
  expires @1 :Int64;    # until when the relay keeps it
  error @2 :Frame.Error;
}

struct HybridKey {
  hybridKey @0 :Data;
  signature @1 :Data;
  error @2 :Frame.Error;
}

struct DeviceEntry {
  device @0 :Data;
  name @1 :Text;
  registered @2 :Int64;
}

# What a subscriber offers. `parcels` is called once at a time, again when it has returned; returning
# does not acknowledge: only `ack` deletes. `observed`: the subscriber's address as seen here is
# another now. `meet`: `peer` asks to be met at these addresses; whoever answers with addresses of
# its own dials at the same moment, no addresses: it does not.
interface ParcelSink {
  parcels @0 (parcels :List(StoredParcel)) -> ();
  observed @1 (address :Text) -> ();
  meet @2 (peer :Data, addresses :List(Text)) -> (addresses :List(Text));
}

interface NodeService {
  uploadKeyPackage @0 (auth :Auth, identityKey :Data, suite :UInt16, package :Data, lastResort :Bool)
      -> (fingerprint :Data, stock :UInt32, error :Frame.Error);
  fetchKeyPackage @1 (auth :Auth, identityKey :Data, suite :UInt16, requestId :Data)
      -> (package :Data, lastResort :Bool, error :Frame.Error);
  enqueue @2 (auth :Auth, item :EnqueueItem) -> (result :EnqueueResult, error :Frame.Error);
  fetch @3 (auth :Auth, recipientKey :Data, channelId :Data, limit :UInt32)
      -> (parcels :List(StoredParcel), lowest :UInt64, highest :UInt64, error :Frame.Error,
          refusedSince :Int64);
  fetchWait @4 (auth :Auth, recipientKey :Data, channelId :Data, limit :UInt32, timeoutMs :UInt32)
      -> (parcels :List(StoredParcel), lowest :UInt64, highest :UInt64, error :Frame.Error,
          refusedSince :Int64);
  health @5 () -> (status :Text, version :Text, uptimeS :UInt64, error :Frame.Error,
      clockMs :Int64, processes :List(Text));
  uploadHybridKey @6 (auth :Auth, identityKey :Data, hybridKey :Data, signature :Data)
      -> (error :Frame.Error);
  fetchHybridKey @7 (auth :Auth, identityKey :Data) -> (key :HybridKey, error :Frame.Error);
  opaqueRegisterStart @8 (name :Text, request :Data, auth :Auth)
      -> (response :Data, error :Frame.Error);
  opaqueRegisterFinish @9 (auth :Auth, name :Text, upload :Data, credential :Record.Signed,
      deviceName :Text) -> (error :Frame.Error);
  opaqueLoginStart @10 (name :Text, request :Data, auth :Auth)
      -> (login :Data, response :Data, error :Frame.Error);
  opaqueLoginFinish @11 (login :Data, finalization :Data, auth :Auth)
      -> (accessToken :Data, expires :Int64, error :Frame.Error);
  publishEndpoint @12 (auth :Auth, identityKey :Data, record :Record.Signed) -> (error :Frame.Error);
  resolveEndpoint @13 (auth :Auth, identityKey :Data)
      -> (record :Record.Signed, error :Frame.Error);
  peek @14 (auth :Auth, recipientKey :Data, channelId :Data, after :UInt64, limit :UInt32)
      -> (parcels :List(StoredParcel), lowest :UInt64, highest :UInt64, error :Frame.Error,
          refusedSince :Int64);
  ack @15 (auth :Auth, recipientKey :Data, channelId :Data, sequences :List(UInt64))
      -> (acknowledged :UInt32, error :Frame.Error);
  batchEnqueue @16 (auth :Auth, items :List(EnqueueItem))
      -> (results :List(EnqueueResult), error :Frame.Error);
  fetchHybridKeys @17 (auth :Auth, identityKeys :List(Data))
      -> (keys :List(HybridKey), error :Frame.Error);
  createChannel @18 (auth :Auth, peerKey :Data)
      -> (channelId :Data, wasNew :Bool, error :Frame.Error);
  resolveUser @19 (auth :Auth, name :Text) -> (identity :Data, error :Frame.Error);
  resolveIdentity @20 (auth :Auth, identity :Data)
      -> (bundle :Record.Signed, error :Frame.Error);
  uploadBlob @21 (auth :Auth, blob :Data, offset :UInt64, chunk :Data, total :UInt64)
      -> (received :UInt64, error :Frame.Error);
  downloadBlob @22 (auth :Auth, blob :Data, offset :UInt64, limit :UInt32)
      -> (chunk :Data, total :UInt64, error :Frame.Error);
  deleteAccount @23 (auth :Auth) -> (error :Frame.Error);
  registerDevice @24 (auth :Auth, device :Data, name :Text, credential :Record.Signed)
      -> (error :Frame.Error);
  listDevices @25 (auth :Auth) -> (devices :List(DeviceEntry), error :Frame.Error);
  revokeDevice @26 (auth :Auth, device :Data) -> (error :Frame.Error);
  subscribe @27 (auth :Auth, recipientKey :Data, after :UInt64, sink :ParcelSink)
      -> (error :Frame.Error);
  # SHA-256 of each token that opens the caller's mailbox to parcels; the set before is forgotten.
  # `optional`: the mailbox takes parcels without a token, too.
  setDeliveryTokens @28 (auth :Auth, hashes :List(Data), optional :Bool) -> (error :Frame.Error);
  observeAddress @29 (auth :Auth) -> (address :Text, error :Frame.Error);
  rendezvous @30 (auth :Auth, peerKey :Data, addresses :List(Text))
      -> (error :Frame.Error, addresses :List(Text));
  relayStatement @31 (auth :Auth, identity :Data, statement :Record.Signed)
      -> (statement :Record.Signed, error :Frame.Error);
  publishBundle @32 (auth :Auth, bundle :Record.Signed) -> (error :Frame.Error);
}
