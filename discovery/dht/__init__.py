"""The DHT: who knows where a device is, asked of strangers and believed of none.

`node.DhtNode` is the whole of it but for sockets: it asks through an `rpc.Rpc`, which QUIC
implements (`quic`) and a simulator may. See docs/decisions/0014-dht.md.
"""
