"""Tokens (JWT) at the authorizer's entry point: real keys, real signatures, and the ways to forge one."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import importlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contracts.access import AccessKey, tenant_pk
from contracts.jwt_issuers import TokenIssuer
from lambdas.authorizer import jwks
from lambdas.authorizer.claims import AuthorizationError, KeysUnavailableError
from lambdas.authorizer.jwks import KeySet, fetch_keys
from lambdas.aws.dynamodb import to_item

ISSUER, AUDIENCE = "https://login.example.com/", "evergreen"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(65537, 2048)
Ask = Callable[[str], dict[str, Any]]


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else None
    public = (algorithm or jwt.algorithms.RSAAlgorithm).to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, "use": "sig", **more}


KEYS = {"keys": [jwk(RSA_KEY, "r1"), jwk(EC_KEY, "e1")]}
INLINE = {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": KEYS}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    said = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "exp": now + 300, "iat": now,
        "tenant": "shop", "scope": "openid inference",
    } | changes  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def token(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "r1", **changes: Any) -> str:
    headers = {"kid": kid} if kid else {}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def by_hand(header: dict[str, Any], body: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body)]
    signature = base64.urlsafe_b64encode(sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


@pytest.fixture
def asker(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ask]:
    """Makes an authorizer for issuers; the tenant `shop` is admitted."""

    def make(*issuers: dict[str, Any], **tenant: Any) -> Ask:
        item = {
            "tenant": "shop", "name": "token", "usage_identifier": "u" * 40, "scopes": ["inference"],
            "created_at": 1,
        } | tenant  # fmt: skip
        row = AccessKey(pk=tenant_pk("shop"), **item)
        tables.put_item(TableName="access", Item=to_item(row.model_dump()))
        monkeypatch.setenv("ENVIRONMENT", "test")
        monkeypatch.setenv("ACCESS_TABLE", "access")
        monkeypatch.setenv("JWT_ISSUERS", json.dumps(issuers))
        import lambdas.authorizer.handler as module

        module = importlib.reload(module)

        def ask(bearer: str) -> dict[str, Any]:
            event = {
                "methodArn": "arn:aws:execute-api:us-east-1:123456789012:api1/dev/POST/v1/chat/completions",
                "headers": {"Authorization": f"Bearer {bearer}"},
                "requestContext": {"requestId": "r"},
            }
            return dict(module.handler(event, None))

        return ask

    return make


@pytest.fixture
def ask(asker: Callable[..., Ask]) -> Ask:
    return asker(INLINE)


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "r1"), (EC_KEY, "ES256", "e1")])
def test_a_good_token_lets_its_tenant_in(ask: Ask, key: Any, algorithm: str, kid: str) -> None:
    answer = ask(token(key, algorithm, kid))
    context = answer["context"]
    assert (context["tenant"], context["key_name"], context["scopes"]) == ("shop", "token", "inference")
    assert len(context["key_id"]) == 12
    assert context["subject"] == hashlib.sha256(f"{claims()['iss']}\0u1".encode()).hexdigest()[:16]
    assert answer["usageIdentifierKey"] == "u" * 40


def test_two_issuers_may_call_two_people_alike(asker: Callable[..., Ask]) -> None:
    ask = asker(INLINE, {**INLINE, "issuer": "https://other.example"})
    contexts = [
        ask(token(RSA_KEY, "RS256", "r1", iss=issuer))["context"]
        for issuer in (INLINE["issuer"], "https://other.example")
    ]
    assert contexts[0]["subject"] != contexts[1]["subject"]
    assert contexts[0]["key_id"] == contexts[1]["key_id"]


def test_a_token_allows_at_most_what_its_tenant_may(asker: Callable[..., Ask]) -> None:
    ask = asker({**INLINE, "scope_prefix": "eg/"}, scopes=["inference", "choose-variant"])
    allowed = ask(token(scope=["eg/choose-variant", "inference", "eg/admin"]))["context"]["scopes"]
    # Without the prefix a scope is not ours, and what the tenant may not the issuer cannot give.
    assert allowed == "choose-variant"


def test_limits_of_the_tenant_hold_for_its_tokens(asker: Callable[..., Ask]) -> None:
    context = asker(INLINE, tokens_per_day=500, requests_per_second=2.5)(token())["context"]
    assert (context["tokens_per_day"], context["requests_per_second"]) == ("500", "2.5")


FORGED = {
    "expired": lambda: token(exp=int(time.time()) - 60),
    "not yet valid": lambda: token(nbf=int(time.time()) + 300),
    "issued in the future": lambda: token(iat=int(time.time()) + 300),
    "without an end": lambda: token(exp=None),
    "another audience": lambda: token(aud="somebody-else"),
    "without an audience": lambda: token(aud=None),
    "another issuer": lambda: token(iss="https://evil.example.com/"),
    "without an issuer": lambda: token(iss=None),
    "an unknown key": lambda: token(kid="r9"),
    "another's signature": lambda: token(OTHER_KEY),
    "a key of another type": lambda: token(EC_KEY, "ES256", "r1"),
    "no key named among several": lambda: jwt.encode(claims(), OTHER_KEY, algorithm="RS256"),
    "a tenant that is no name": lambda: token(tenant="shop#x"),
    "a tenant in a list": lambda: token(tenant=["shop"]),
    "no tenant": lambda: token(tenant=None),
    "a tenant nobody admitted": lambda: token(tenant="stranger"),
    "alg none": lambda: by_hand({"alg": "none", "kid": "r1"}, claims(), lambda signed: b""),
    "alg missing": lambda: by_hand({"kid": "r1"}, claims(), lambda signed: b""),
    "alg RS512": lambda: token(algorithm="RS512"),
    "a critical extension": lambda: jwt.encode(
        claims(), RSA_KEY, algorithm="RS256", headers={"kid": "r1", "crit": ["x"], "x": 1}
    ),
    "kid of another kind": lambda: by_hand({"alg": "RS256", "kid": 1}, claims(), lambda signed: b"x"),
    "not JSON": lambda: "eyJh.eyJh.eyJh",
    "deeply nested": lambda: base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30",
    "a changed claim": lambda: ".".join(
        [token().split(".")[0], token(tenant="other").split(".")[1], token().split(".")[2]]
    ),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_everything_else_is_refused_in_the_same_words(
    ask: Ask, forge: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    forged = forge()
    with pytest.raises(Exception, match=r"^Unauthorized$") as caught:
        ask(forged)
    assert type(caught.value) is Exception
    assert forged not in capsys.readouterr().out


def test_the_public_key_is_no_shared_secret(ask: Ask) -> None:
    """The best known forgery: sign with HMAC, the published key being the secret."""
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = by_hand(
        {"alg": "HS256", "kid": "r1"}, claims(), lambda signed: hmac.digest(public, signed, hashlib.sha256)
    )
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        ask(forged)


def test_a_key_too_short_to_trust_is_not_used(asker: Callable[..., Ask]) -> None:
    short = rsa.generate_private_key(65537, 1024)
    ask = asker({**INLINE, "jwks": {"keys": [jwk(short, "r1")]}})
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        ask(token(short))


@pytest.mark.parametrize("changes", [{"revoked": True}, {"expires_at": 5}])
def test_a_tenant_is_shut_out_as_a_key_is(asker: Callable[..., Ask], changes: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        asker(INLINE, **changes)(token())


def test_each_issuer_vouches_with_its_own_keys_only(asker: Callable[..., Ask]) -> None:
    other = {
        "issuer": "https://other.example.com/",
        "audiences": ["x"],
        "jwks": {"keys": [jwk(OTHER_KEY, "r1")]},
    }
    ask = asker(INLINE, other)
    assert ask(token(OTHER_KEY, iss="https://other.example.com/", aud="x"))["context"]["tenant"] == "shop"
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        ask(token(OTHER_KEY))


def test_an_audience_in_another_claim(asker: Callable[..., Ask]) -> None:
    ask = asker({**INLINE, "audience_claim": "client_id"})
    assert ask(token(aud=None, client_id=AUDIENCE))["context"]["tenant"] == "shop"
    for wrong in ("someone", [AUDIENCE, {}], None):
        with pytest.raises(Exception, match=r"^Unauthorized$"):
            ask(token(client_id=wrong))


def test_without_issuers_a_token_is_just_an_unknown_key(asker: Callable[..., Ask]) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        asker()(token())


# --- keys over the network -------------------------------------------------------------------------------


class Published:
    """An address that serves keys, counted, and a clock."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys, self.fetched, self.now = list(keys), 0, 1_000.0
        self.down = False

    def fetch(self, url: str) -> bytes:
        self.fetched += 1
        if self.down:
            raise KeysUnavailableError("down")
        return json.dumps({"keys": self.keys}).encode()

    def key_set(self) -> KeySet:
        issuer = TokenIssuer(issuer=ISSUER, audiences=[AUDIENCE], jwks_url="https://login.example.com/jwks")
        return KeySet(issuer, self.fetch, lambda: self.now)


def test_keys_are_fetched_once_and_again_when_they_are_old() -> None:
    published = Published(jwk(RSA_KEY, "r1"))
    keys = published.key_set()
    for _ in range(3):
        assert keys.find("r1", "RS256")["kid"] == "r1"
    assert published.fetched == 1
    published.now += jwks.FRESH_SECONDS + 1
    keys.find("r1", "RS256")
    assert published.fetched == 2


def test_a_new_key_is_found_but_made_up_ones_do_not_flood_the_issuer() -> None:
    published = Published(jwk(RSA_KEY, "r1"))
    keys = published.key_set()
    keys.find("r1", "RS256")
    published.keys.append(jwk(OTHER_KEY, "r2"))
    published.now += jwks.PAUSE_SECONDS
    assert keys.find("r2", "RS256")["kid"] == "r2"
    for number in range(50):
        with pytest.raises(AuthorizationError):
            keys.find(f"made-up-{number}", "RS256")
    assert published.fetched == 2


def test_known_keys_serve_on_while_the_issuer_is_down_but_not_for_ever() -> None:
    published = Published(jwk(RSA_KEY, "r1"))
    keys = published.key_set()
    keys.find("r1", "RS256")
    published.down = True
    published.now += jwks.FRESH_SECONDS + 1
    assert keys.find("r1", "RS256")["kid"] == "r1"
    published.now += jwks.STALE_SECONDS
    with pytest.raises(KeysUnavailableError):
        keys.find("r1", "RS256")


def test_an_issuer_never_reached_is_no_bad_token(
    asker: Callable[..., Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str) -> bytes:
        raise KeysUnavailableError("no route")

    monkeypatch.setattr(jwks, "fetch_keys", unreachable)
    ask = asker({"issuer": ISSUER, "audiences": [AUDIENCE], "jwks_url": "https://login.example.com/jwks"})
    # API Gateway answers 500 to anything but `Unauthorized`: an outage is no bad token.
    for _ in range(2):
        with pytest.raises(KeysUnavailableError):
            ask(token())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    import ipaddress

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(RSA_KEY.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(RSA_KEY, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        RSA_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def issuer_site(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An https site: `/jwks` has the keys, `/large` too much, `/moved` redirects, `/gone` is not there."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"/jwks": json.dumps(KEYS).encode(), "/large": b"x" * (jwks.MAX_BYTES + 1)}.get(
                self.path, b""
            )
            self.send_response({"/moved": 302, "/gone": 404}.get(self.path, 200))
            if self.path == "/moved":
                self.send_header("Location", "/jwks")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_keys_come_over_tls_from_the_address_of_the_settings(
    asker: Callable[..., Ask], issuer_site: str
) -> None:
    ask = asker({"issuer": ISSUER, "audiences": [AUDIENCE], "jwks_url": f"{issuer_site}/jwks"})
    assert ask(token())["context"]["tenant"] == "shop"


@pytest.mark.parametrize("path", ["/large", "/moved", "/gone"])
def test_what_is_not_plainly_the_keys_is_not_taken(issuer_site: str, path: str) -> None:
    with pytest.raises(KeysUnavailableError):
        fetch_keys(issuer_site + path)


def test_a_site_whose_certificate_nobody_vouches_for_is_not_asked(
    issuer_site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(KeysUnavailableError):
        fetch_keys(f"{issuer_site}/jwks")
