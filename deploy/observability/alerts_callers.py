"""Alerts of what callers do: floods of bad keys, probes, guessed passwords, and streams over their cap."""

from model import TICKET, Alert, Kind, Runbook, Series

_IN = 'job="authz",instance="a"'
_INVALID = "key_unknown|key_malformed|address_throttled"
_PROBES = "barred|account_mismatch|account_repeated|header_alias|method_overridden|path_not_canonical"

ALERTS = (
    Alert(
        "AuthzInvalidKeyFlood",
        f'sum by (job) (rate(authz_checks_total{{reason=~"{_INVALID}"}}[5m])) > 5',
        "5m",
        TICKET,
        "many requests carry keys that do not exist",
        Runbook(
            "Somebody guesses keys, or a client uses a key of another environment.",
            "Those callers get 401, then 429 past the limit of their address. Others are not affected.",
            "`source_address` of the refusals in the decision log; `authz_throttled_addresses`.",
            "Block the addresses in front of Envoy. Many callers behind one address: see `docs/policy.md`, `invalid_keys`.",
            "The rate is below 5 a second.",
        ),
        (
            Series(
                f'authz_checks_total{{{_IN},outcome="deny",reason="key_unknown",route="unmatched"}}',
                6,
                900,
                Kind.COUNTER,
            ),
        ),
        {"job": "authz"},
    ),
    Alert(
        "AuthzProbing",
        f'sum by (job, reason) (rate(authz_checks_total{{reason=~"{_PROBES}"}}[10m])) > 0.5',
        "10m",
        TICKET,
        "callers try what the policy never permits",
        Runbook(
            "Requests for barred routes, for other accounts, or with forms that attacks use. The label `reason` says which.",
            "403 or 400.",
            "`account_id`, `key_id` and `source_address` of the refusals in the decision log.",
            "One key: ask its owner or disable it, `authz keys disable`. After a release of the API: correct the policy.",
            "The rate is below one in two seconds.",
        ),
        (
            Series(
                f'authz_checks_total{{{_IN},outcome="deny",reason="barred",route="/v1/admin/**"}}', 0, 120, Kind.COUNTER
            ),
        ),
        {"job": "authz", "reason": "barred"},
    ),
    Alert(
        "AuthzRevokedKeysUsed",
        'sum by (job) (rate(authz_checks_total{reason=~"key_revoked|key_disabled|account_suspended"}[15m])) > 0.2',
        "15m",
        TICKET,
        "keys that were revoked or disabled are used again and again",
        Runbook(
            "A client was not updated after a rotation, or somebody uses a stolen key.",
            "401 or 403 for these keys.",
            "`key_id` and `source_address` in the decision log; `authz keys show KEY_ID` names its owner.",
            "Tell the owner. From unknown addresses: follow the key compromise drill in `docs/operations.md`.",
            "The rate is below one in five seconds.",
        ),
        (
            Series(
                f'authz_checks_total{{{_IN},outcome="deny",reason="key_revoked",route="unmatched"}}',
                0,
                60,
                Kind.COUNTER,
            ),
        ),
        {"job": "authz"},
    ),
    Alert(
        "AuthzStreamCapExceeded",
        'sum by (job, stream) (increase(authz_stream_retakes_total{exceeds="true"}[15m])) > 0',
        "0m",
        TICKET,
        "an account has more open streams than its cap",
        Runbook(
            "A stream outlived its lease, and another had taken its slot: Redis or the sidecars were away for longer than "
            "the lease.",
            "An account has more streams than its cap, until some end.",
            "`authz streams list --account ACCOUNT`.",
            "Find out why leases were lost: AuthzRedisUnavailable, AuthzReportsBreak.",
            "The counter stays the same for 15 minutes.",
        ),
        (Series(f'authz_stream_retakes_total{{{_IN},stream="logs",exceeds="true"}}', 0, 1, Kind.COUNTER),),
        {"job": "authz", "stream": "logs"},
    ),
    Alert(
        "AuthzStreamsRefused",
        'sum by (job, stream) (rate(authz_stream_acquisitions_total{outcome=~"key_full|account_full"}[10m])) > 0.2',
        "10m",
        TICKET,
        "many streams are refused at their cap",
        Runbook(
            "Clients open more streams than the policy permits, or slots of ended streams are not released.",
            "429 when a stream is opened.",
            "`authz streams list --account ACCOUNT` against what the backend counts.",
            "Slots without a stream: AuthzReportsBreak. Otherwise raise the cap in the policy, or tell the customer.",
            "The rate is below one in five seconds.",
        ),
        (Series(f'authz_stream_acquisitions_total{{{_IN},stream="logs",outcome="key_full"}}', 0, 60, Kind.COUNTER),),
        {"job": "authz", "stream": "logs"},
    ),
    Alert(
        "AuthzPasswordsGuessed",
        'sum by (job) (rate(authz_portal_logins_total{outcome=~"wrong|throttled"}[10m])) > 1',
        "10m",
        TICKET,
        "many logins at the portal fail",
        Runbook(
            "Somebody guesses passwords.",
            "Wrong logins are throttled by address and by account. Owners with a known browser still log in.",
            "`authz_portal_throttled_total` by `attempt` and `by`; the portal's log.",
            "Block the addresses in front of Envoy.",
            "The rate is below one a second.",
        ),
        (Series(f'authz_portal_logins_total{{{_IN},outcome="wrong"}}', 1, 200, Kind.COUNTER),),
        {"job": "authz"},
    ),
)
