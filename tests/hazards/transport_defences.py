"""Against a peer over QUIC; and Retry, certificates, timers."""

from __future__ import annotations

from tests.hazards.defence import Defence, Removal, defence

_BOUNDS = "tests/transport/test_peer_bounds.py"
_CONNECTION = "tests/transport/test_connection.py"
_ADMISSION = "tests/transport/test_admission.py"
_IDENTITY = "tests/transport/test_identity.py"

_STREAM_CREDIT = Removal(
    "transport/flow_control.py", "    def _write_stream_limits(", "    def _not_used("
)
_CONNECTION_CREDIT = Removal(
    "transport/flow_control.py",
    '        """aioquic doubles the limit on what was SEEN; what counts is what was consumed."""',
    "        self._granted = value",
)

TRANSPORT = (
    Defence(
        "512 MiB gap: credit by what was read, of a stream",
        (_STREAM_CREDIT,),
        (f"{_BOUNDS}::test_the_512_mib_gap",),
    ),
    Defence(
        "512 MiB gap: credit by what was read, of a connection",
        (_CONNECTION_CREDIT,),
        (f"{_BOUNDS}::test_the_gap_spread_over_all_streams",),
    ),
    Defence(
        "512 MiB gap: both",
        (_STREAM_CREDIT, _CONNECTION_CREDIT),
        (f"{_CONNECTION}::test_the_reassembly_gap_is_bounded",),
    ),
    defence(
        "512 MiB gap: in the handshake",
        "transport/quic.py",
        "        if end > MAX_HANDSHAKE_BYTES:",
        "        if end < 0:",
        f"{_ADMISSION}::test_a_gap_in_the_handshake_is_not_filled",
    ),
    defence(
        "one-byte fragments",
        "transport/peer_bounds.py",
        "        if stream is not None and len(stream.receiver._ranges) > self._max_ranges:",
        "        if stream is not None and len(stream.receiver._ranges) < 0:",
        f"{_BOUNDS}::test_one_byte_fragments",
        f"{_BOUNDS}::test_one_byte_fragments_of_crypto_data",
    ),
    defence(
        "spoofed Initials: Retry from a number of half-open handshakes on",
        "transport/admission.py",
        "        if self.half_open >= self._limits.retry_from_half_open"
        " or not self._first_packets.take(now):",
        "        if not self._first_packets.take(now):",
        f"{_ADMISSION}::test_half_open_handshakes_are_forgotten_at_the_deadline",
        f"{_ADMISSION}::test_a_flood_of_made_up_addresses_does_not_keep_a_newcomer_out",
    ),
    defence(
        "spoofed Initials: Retry above a rate of first packets",
        "transport/admission.py",
        " or not self._first_packets.take(now):",
        ":",
        f"{_ADMISSION}::test_a_stranger_who_hangs_up_at_once_is_not_served_for_ever",
    ),
    defence(
        "spoofed Initials: the handshake deadline",
        "transport/connection.py",
        "            limits.handshake_deadline_s, self._handshake_too_slow",
        "            10_000.0, self._handshake_too_slow",
        f"{_ADMISSION}::test_half_open_handshakes_are_forgotten_at_the_deadline",
        "tests/transport/test_virtual_time.py::test_a_handshake_with_nobody_ends_at_its_deadline",
    ),
    defence(
        "spoofed Initials: a cap per address prefix",
        "transport/admission.py",
        "        if self._by_prefix[address_prefix(remote)]"
        " >= self._limits.max_half_open_per_prefix:",
        "        if self._by_prefix[address_prefix(remote)] < 0:",
        f"{_ADMISSION}::test_one_prefix_does_not_take_all_places",
    ),
    defence(
        "amplification: a first packet fills its datagram",
        "transport/admission.py",
        "        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:",
        "        if not data:",
        f"{_ADMISSION}::test_small_first_packets_are_not_answered",
    ),
    defence(
        "slow reader: a writer waits",
        "transport/connection_streams.py",
        "        return min(",
        "        return 1 << 40 or min(",
        f"{_CONNECTION}::test_a_writer_that_outruns_its_reader_stops",
        f"{_BOUNDS}::test_a_peer_that_never_reads_is_no_reason_to_close",
    ),
    defence(
        "a peer that never acknowledges packets",
        "transport/liveness.py",
        "            self._mute()\n            return\n",
        "            pass\n",
        f"{_BOUNDS}::test_a_peer_that_never_acknowledges",
    ),
    defence(
        "acknowledging what was not sent",
        "transport/peer_bounds.py",
        "        if bounds.stop > self._packet_number"
        " or any(each in ack_rangeset for each in skipped):",
        "        if False:",
        f"{_BOUNDS}::test_acknowledging_what_was_not_sent",
        f"{_BOUNDS}::test_optimistic_acknowledgement",
    ),
    defence(
        "endless streams: the number of streams",
        "transport/flow_control.py",
        "        self._local_max_streams_bidi.value = limits.max_streams\n"
        "        self._local_max_streams_bidi.sent = limits.max_streams\n",
        "        self._local_max_streams_bidi.value = 1 << 30\n"
        "        self._local_max_streams_bidi.sent = 1 << 30\n",
        f"{_BOUNDS}::test_more_streams_than_allowed",
        f"{_CONNECTION}::test_the_number_of_streams_is_bounded",
    ),
    defence(
        "endless streams: the queue of those that nobody accepts",
        "transport/stream_table.py",
        "        if len(self._waiting) >= self._accept_queue:",
        "        if False:",
        f"{_CONNECTION}::test_the_accept_queue_is_bounded",
    ),
    defence(
        "endless pings: records of bare acknowledgements",
        "transport/peer_bounds.py",
        "        if datagrams:\n            self._forget_bare_acks()\n",
        "",
        f"{_BOUNDS}::test_endless_pings_leave_no_records",
    ),
    defence(
        "endless connection ids",
        "transport/peer_bounds.py",
        "        if len(self._peer_cid_sequence_numbers) > self._max_connection_ids:",
        "        if False:",
        f"{_BOUNDS}::test_switching_connection_ids_for_ever",
    ),
    defence(
        "connection ids that are retired for ever",
        "transport/endpoint.py",
        "        if connection_id not in self._routes:  # told twice: made, and sent\n",
        "        if True:\n",
        "tests/transport/test_endpoint.py::"
        "test_a_peer_that_retires_our_ids_for_ever_leaves_none_behind",
    ),
    defence(
        "a timer that fires a rounding error early",
        "transport/timer.py",
        "TIMER_SLACK_S = 1e-6",
        "TIMER_SLACK_S = 0.0",
        "tests/transport/test_virtual_time.py::test_a_hundred_messages_then_an_hour_then_silence",
    ),
    defence(
        "client certificates: none",
        "transport/tls.py",
        "        if not tls.pull_certificate(input_buf).certificates:",
        "        if False:",
        f"{_IDENTITY}::test_unmodified_client_without_certificate_is_refused",
    ),
    defence(
        "client certificates: wrong key",
        "transport/tls.py",
        "        if self._policy.expected is not None and claimed != self._policy.expected:",
        "        if False:",
        f"{_IDENTITY}::test_wrong_pin_fails_closed",
    ),
    defence(
        "client certificates: expired, or not as ours are",
        "transport/certificate.py",
        "def check_certificate_untrusted(",
        "def check_certificate_untrusted(certificate, now):  # type: ignore\n"
        "    return DeviceKey(certificate.public_key().public_bytes_raw())\n\n\n"
        "def _not_used(",
        f"{_IDENTITY}::test_bad_client_certificates_are_refused",
        f"{_IDENTITY}::test_bad_server_certificates_are_refused",
    ),
    defence(
        "client certificates: a proof of possession that is replayed",
        "transport/tls.py",
        "        super()._check_certificate_verify_signature(verify)\n",
        "",
        "tests/transport/test_replay.py::test_a_replayed_certificate_verify_of_a_dialler",
        "tests/transport/test_replay.py::test_a_replayed_certificate_verify_of_an_acceptor",
    ),
    defence(
        "client certificates: a hook that proves nothing",
        "transport/connection.py",
        "        if peer is None or event.session_resumed or event.alpn_protocol is None:",
        "        if event.session_resumed or event.alpn_protocol is None:",
        f"{_IDENTITY}::test_a_hook_that_proves_nothing_fails_closed",
    ),
    defence(
        "client certificates: another aioquic",
        "transport/endpoint.py",
        "        require_supported_aioquic()\n",
        "",
        f"{_IDENTITY}::test_another_aioquic_is_refused",
    ),
)
