"""Of accounts, and of relays that are not open to anybody."""

from __future__ import annotations

from tests.hazards.defence import Defence, Removal, defence

_ACCOUNTS = "tests/relay/test_accounts.py"
_ADMISSION = "tests/relay/test_admission.py"
_LOGINS = "tests/relay/test_logins.py"
_NAMES = "tests/schemas/test_accounts.py"
_STORE = "tests/relay/store/test_accounts.py"
_FORGETTING = "tests/relay/store/test_forgetting.py"

ACCOUNTS: tuple[Defence, ...] = (
    defence(
        "a login is bound to the keys of its connection",
        "schemas/accounts.py",
        'return b"quicnprotochat login v1" + relay + device',
        'return b"quicnprotochat login v1"',
        f"{_ACCOUNTS}::test_a_login_for_another_relay_or_device_gets_no_further[sqlite]",
    ),
    defence(
        "a login is its own device's",
        "relay/logins.py",
        "        if pending is None or pending.device != device:",
        "        if pending is None:",
        f"{_LOGINS}::test_a_login_is_taken_once_by_its_own_device",
    ),
    defence(
        "a login has one try",
        "relay/logins.py",
        "            return None\n        self._forget(id)\n        return pending",
        "            return None\n        return pending",
        f"{_LOGINS}::test_a_login_is_taken_once_by_its_own_device",
    ),
    defence(
        "half a login is forgotten",
        "relay/logins.py",
        "            if pending.until > now:",
        "            if pending.until > 0:",
        f"{_LOGINS}::test_what_is_not_finished_goes_by_itself",
    ),
    defence(
        "half logins are bounded for each prefix",
        "relay/logins.py",
        "            if len(place) >= self._limits.pending_logins_per_prefix:",
        "            if len(place) >= 10**9:",
        f"{_LOGINS}::test_a_flood_from_one_place_pushes_out_its_own",
    ),
    defence(
        "half logins are bounded in all",
        "relay/logins.py",
        "        if len(self._pending) >= self._limits.pending_logins:",
        "        if len(self._pending) >= 10**9:",
        f"{_LOGINS}::test_a_flood_from_everywhere_is_bounded_in_all",
    ),
    defence(
        "guesses of one password have a rate",
        "relay/accounts.py",
        "        self._guesses.use(name, caller.device if own else caller.prefix, own=own)",
        "        pass",
        f"{_ACCOUNTS}::test_guesses_of_one_password_are_limited_from_wherever_they_come",
    ),
    defence(
        "strangers' guesses shut out a place that is known",
        "relay/guesses.py",
        "        stranger = not own and source not in self._known",
        "        stranger = True",
        f"{_ACCOUNTS}::test_strangers_guesses_shut_nobody_out_of_a_login",
    ),
    defence(
        "one place's guesses are its own",
        "relay/accounts.py",
        "caller.device if own else caller.prefix, own=own)",
        "None)",
        f"{_ACCOUNTS}::test_strangers_guesses_shut_nobody_out_of_a_login",
    ),
    defence(
        "an unknown name costs the same work",
        "relay/accounts.py",
        "        own = await self._is_own(caller.device, account)\n",
        "        own = await self._is_own(caller.device, account)\n"
        "        if account is None:\n"
        "            raise _login_failed()\n",
        "tests/relay/test_login_enumeration.py"
        "::test_unknown_name_and_wrong_password_are_one_thing_in_bytes_and_work",
    ),
    defence(
        "a session's token is compared",
        "relay/accounts.py",
        "        if session is None or not same:",
        "        if session is None:",
        f"{_ACCOUNTS}::test_tokens_that_are_forged_replayed_or_expired_open_nothing[sqlite]",
    ),
    defence(
        "a session that has ended does not come back",
        "relay/accounts.py",
        "            await self._store.end_session(device)\n",
        "",
        f"{_ACCOUNTS}::test_tokens_that_are_forged_replayed_or_expired_open_nothing[sqlite]",
    ),
    defence(
        "a session of a time to come is none",
        "relay/accounts.py",
        "        if not session.issued - CLOCK_SKEW_S <= now < session.expires:",
        "        if not now < session.expires:",
        f"{_ACCOUNTS}::test_a_clock_set_back_ends_a_session_made_in_the_future[sqlite]",
    ),
    defence(
        "a device is registered by itself",
        "relay/account_methods.py",
        "        call.require_own(device)  # else",
        "        # else",
        f"{_ACCOUNTS}::test_devices_are_registered_listed_and_revoked_by_their_owner[sqlite]",
    ),
    defence(
        "a device is registered with its owner's signature",
        "relay/account_methods.py",
        "        if identity != session.identity:",
        "        if False:",
        f"{_ACCOUNTS}::test_devices_are_registered_listed_and_revoked_by_their_owner[sqlite]",
    ),
    defence(
        "a name is bound to an identity by its signature",
        "relay/account_methods.py",
        "    return verify_credential_untrusted(device, credential.signer + credential.signature)",
        "    return IdentityKey(credential.signer)",
        f"{_ACCOUNTS}::test_a_name_belongs_to_one_identity[sqlite]",
    ),
    defence(
        "a revoked device stays out of an open relay, too",
        "relay/admission.py",
        "        elif standing.revoked:",
        "        elif False:",
        f"{_ACCOUNTS}::test_devices_are_registered_listed_and_revoked_by_their_owner[sqlite]",
    ),
    defence(
        "what was revoked is hung up on",
        "relay/accounts.py",
        '                caller.hang_up("device-revoked")',
        "                pass",
        f"{_ACCOUNTS}::test_a_deleted_account_takes_everything_along[sqlite]",
    ),
    defence(
        "an invite is used as often as it says",
        "relay/store/sqlite/invites.py",
        "WHERE token = ? AND used < uses AND expires > ?",
        "WHERE token = ? AND expires > ?",
        f"{_STORE}::test_an_invite_makes_as_many_accounts_as_it_says[sqlite]",
        f"{_STORE}::test_an_invite_is_used_once_by_many_at_once[sqlite]",
    ),
    defence(
        "members alone have things kept",
        "relay/admission.py",
        "            elif not self._shows_token(call):",
        "            elif False:",
        f"{_ADMISSION}::test_by_invitation_only_members_have_anything_kept",
        f"{_ADMISSION}::test_with_a_token_whoever_shows_it",
    ),
    defence(
        "made-up recipients get no mailbox at a relay of members",
        "relay/store/sqlite/mailboxes.py",
        "    if not (by.making or ",
        "    if not (True or ",
        f"{_ADMISSION}::test_by_invitation_only_members_have_anything_kept",
    ),
    defence(
        "letters of several scripts make no name",
        "schemas/accounts.py",
        " and len(scripts) <= 1",
        "",
        f"{_NAMES}::test_odd_names_are_refused",
    ),
    defence(
        "channels are their members'",
        "relay/channel_methods.py",
        "    if not {caller, recipient} <= members:",
        "    if False:",
        "tests/relay/test_channels.py::test_only_members_bring_and_read",
    ),
    Defence(
        "a deleted account leaves nothing, whatever the table",
        (
            Removal(
                "relay/store/sqlite/forgetting.py",
                '    connection.execute("DELETE FROM damaged WHERE recipient = ?", (key,))\n',
                "",
            ),
        ),
        (f"{_FORGETTING}::test_an_account_that_is_deleted_leaves_no_row_behind[sqlite]",),
    ),
)
