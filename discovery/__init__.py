"""Where a device can be reached: signed endpoint records, mDNS, and one resolver over all sources.

Everything learnt here is a hint: only the TLS handshake proves who answered. Times are Unix
seconds from an injected clock. The DHT and contacts-only LAN visibility are not built yet; they
come as another `sources.Source` and another way to fill `mdns_txt`.
"""
