@0xc3f7be0d58a16294;
# Node to node (ALPN quicnprotochat/p2p/1): 4-byte little-endian length, then one Frame.

using Record = import "record.capnp";
using Parcel = import "parcel.capnp";

struct Frame {
  union {
    hello @0 :Hello;
    ping @1 :UInt64;
    pong @2 :UInt64;
    deliver @3 :Parcel.Parcel;
    ack @4 :Ack;
    summary @5 :Record.Signed;
    keyPackageRequest @6 :KeyPackageRequest;
    keyPackageResponse @7 :KeyPackageResponse;
    bundleRequest @8 :BundleRequest;
    bundleResponse @9 :BundleResponse;
    error @10 :Error;
    meetRequest @11 :Meet;
    meet @12 :Meet;
    meetResponse @13 :MeetResponse;
  }
}

struct Hello {
  versions @0 :List(UInt16);
  credential @1 :Data;        # device credential: identity key 32 | signature 64
  bundleNumber @2 :UInt64;
  bundleHash @3 :Data;
  endpointSequence @4 :UInt64;
  largestFrame @5 :UInt32;
  observed @6 :Text;          # the other side's address as seen here
  features @7 :List(Text);
}

struct Ack {
  parcel @0 :Data;
  union {
    ok @1 :Void;              # on disk here: stop sending. Says nothing about `delivered`.
    deferred @2 :UInt32;      # milliseconds to wait before trying again
    refused @3 :Text;         # code
  }
}

struct KeyPackageRequest {
  suite @0 :UInt16;
  requestId @1 :Data;
}

struct KeyPackageResponse {
  keyPackage @0 :Data;
}

struct BundleRequest {
  identity @0 :Data;
  newerThan @1 :UInt64;
}

struct BundleResponse {
  core @0 :Record.Signed;     # null when there is none newer
  endpoints @1 :List(Record.Signed);
}

# meetRequest: bring me together with the device `peer`, which is to dial these addresses. meet: the
# device `peer` asked for it. Each on a short stream, answered with meetResponse or error.
struct Meet {
  peer @0 :Data;
  addresses @1 :List(Text);   # HOST:PORT, at most 8, numeric
}

struct MeetResponse {
  addresses @0 :List(Text);   # which are dialled from now on; none: it will not
}

struct Error {
  code @0 :Text;
  message @1 :Text;
  hint @2 :Text;
  retryAfterMs @3 :UInt32;
}
