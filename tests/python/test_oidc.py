"""Sign in with tokens of a real OIDC provider: who is let in, until when, and who is not."""

import hashlib
import hmac
import re
import sqlite3
import subprocess
import time

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from conftest import Reader, binary, start, statement_query
from test_docs import blocks
from provider import HUB, Provider, part, with_part

# How long keys count in these tests, in seconds; by default it is minutes.
REFRESH_SECONDS = 2
# A second by contract, and what a loaded machine and a client's own buffers take.
END_SECONDS_MAX = 1.0 + 1.0
ROWS = 30_000
# More rows than anybody reads in the time of a test.
LONG = "SELECT a.ward FROM clinic.stays a CROSS JOIN clinic.stays b"

CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
zone = "inside"

[workers]
listen = "127.0.0.1:0"

[[oidc]]
issuer = "{issuer}"
audiences = ["{hub}"]
acr = ["urn:example:mfa"]
amr = ["otp", "hwk"]
keys_refresh_seconds = {refresh}

[[dataset]]
name = "clinic"
producer = "tests"
folder = "clinic"
persons = "none"

[[person]]
id = "alice"
subject = "ada-7f"

[[person]]
id = "bob"
subject = "bob-11"

[[person]]
id = "carol"

[[project]]
id = "study"
members = ["alice", "bob", "carol"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"

[[habilitation]]
project = "study"
dataset = "clinic"
decision = "tests"
valid_from = "2000-01-01"
valid_to = "2999-01-01"
"""


def serve(folder, issuer):
    stays = pa.table({"ward": ["a", "b", "c"] * (ROWS // 3)})
    (folder / "clinic" / "stays").mkdir(parents=True, exist_ok=True)
    pq.write_table(stays, folder / "clinic" / "stays" / "part.parquet")
    config = folder / "hub.toml"
    config.write_text(CONFIG.format(issuer=issuer, hub=HUB, refresh=REFRESH_SECONDS))
    return start(["serve", "--config", str(config)], folder, folder / "serve.log")


@pytest.fixture(scope="module")
def provider():
    running = Provider()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory, provider):
    running = serve(tmp_path_factory.mktemp("oidc"), provider.issuer)
    yield running
    running.stop()


def store(hub, *statements):
    """What another process writes to the store."""
    with sqlite3.connect(hub.dir / "hubflight-state" / "hub.sqlite", timeout=10) as database:
        rows = [database.execute(statement).fetchall() for statement in statements]
    database.close()
    return rows[-1]


def ask(hub, token, sql="SELECT count(*) AS n FROM clinic.stays"):
    """By ADBC, with the token as the bearer of each call."""
    options = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}
    with flightsql.connect(hub.uri, db_kwargs=options, autocommit=True) as connection, \
            connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def refusal(hub, token):
    """(status, text) of a token that must be refused, without the driver's own words after them."""
    with pytest.raises(Exception) as caught:
        ask(hub, token)
    said, status = re.search(r"(.*?) \((\w+); ", str(caught.value), flags=re.S).groups()
    return status, said


def stream(hub, token):
    """A long stream that has begun."""
    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
    descriptor = flight.FlightDescriptor.for_command(statement_query(LONG))
    info = client.get_flight_info(descriptor, options)
    return client.do_get(info.endpoints[0].ticket, options)


@pytest.mark.parametrize("alg", ["ES256", "RS256", "PS256", "EdDSA"])
def test_a_token_signs_in_whatever_it_is_signed_with(served, provider, alg):
    token = provider.token("ada-7f", alg=alg)
    assert part(token, 0)["alg"] == alg
    assert ask(served, token)["n"].to_pylist() == [ROWS]


def test_each_way_to_show_a_token_works(served, provider):
    token = provider.token("ada-7f")
    with served.connect("alice", password=token) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM clinic.stays")
        assert cursor.fetchone() == (ROWS,)
    client = flight.FlightClient(f"grpc+tcp://{served.flight}")
    # A handshake gives a session of the hub, which pyarrow then sends.
    options = flight.FlightCallOptions(headers=[client.authenticate_basic_token("alice", token)])
    info = client.get_flight_info(flight.FlightDescriptor.for_command(statement_query(
        "SELECT count(*) AS n FROM clinic.stays")), options)
    assert client.do_get(info.endpoints[0].ticket, options).read_all()["n"].to_pylist() == [ROWS]
    with pytest.raises(Exception, match="UNAUTHENTICATED"):
        with served.connect("bob", password=token) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_the_readme_signs_in_with_a_token(served, provider):
    code = blocks("py")[0].replace("grpc+tls://hub.example.org:31337", served.uri)
    scope = {"token": provider.token("ada-7f")}
    exec(code, scope)
    with scope["connection"] as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM clinic.stays")
        assert cursor.fetchone() == (ROWS,)


def test_what_is_no_good_token_is_told_one_thing(served, provider):
    good = provider.token("ada-7f")
    ask(served, good)
    header, claims = part(good, 0), part(good, 1)
    message = ".".join(with_part(good, 0, {**header, "alg": "HS256"}).split(".")[:2])
    mac = hmac.new(header["kid"].encode(), message.encode(), hashlib.sha256).digest()
    bad = {
        "one factor": provider.token("ada-7f", factor="pwd"),
        "another audience": provider.token("ada-7f", resource="https://other.example.org"),
        "not accepted": provider.token("ada-7f", alg="RS512"),
        "nobody here": provider.token("eve-66"),
        "no subject here": provider.token("carol"),
        "identity": provider.tokens("ada-7f")["id_token"],
        "lives too long": provider.token("ada-7f", ttl=7200),
        "somebody else": with_part(good, 1, {**claims, "sub": "bob-11"}),
        "longer": with_part(good, 1, {**claims, "exp": claims["exp"] + 60}),
        "unsigned": ".".join(with_part(good, 0, {**header, "alg": "none"}).split(".")[:2]) + ".",
        "a public key as a secret": f"{message}.{mac.hex()}",
        "another key": with_part(good, 0, {**header, "kid": "other"}),
        "cut": good[:-4],
        "no token": "eyJ.eyJ.eyJ",
    }
    told = {name: refusal(served, token) for name, token in bad.items()}
    assert set(told.values()) == {told["cut"]}, told
    assert told["cut"][0] == "Unauthenticated", told["cut"]
    ask(served, good)


def test_who_is_disabled_is_told_the_same(served, provider):
    token = provider.token("bob-11")
    ask(served, token)
    wrong = refusal(served, token[:-4])
    store(served, "UPDATE persons SET active = 0 WHERE id = 'bob'")
    assert refusal(served, token) == wrong
    store(served, "UPDATE persons SET active = 1 WHERE id = 'bob'")
    ask(served, token)


def test_keys_rotate(tmp_path):
    provider = Provider()
    hub = serve(tmp_path, provider.issuer)
    try:
        old = provider.token("ada-7f")
        ask(hub, old)
        provider.rotate(keep=True)
        new = provider.token("ada-7f")
        assert part(new, 0)["kid"] != part(old, 0)["kid"]
        deadline = time.monotonic() + REFRESH_SECONDS + 1
        while time.monotonic() < deadline:
            ask(hub, old)
            time.sleep(0.2)
        # A key that is not known yet is asked for.
        ask(hub, new)
        provider.rotate(keep=False)
        time.sleep(REFRESH_SECONDS + 0.5)
        for token in (old, new):
            assert refusal(hub, token)[0] == "Unauthenticated"
        ask(hub, provider.token("ada-7f"))
    finally:
        hub.stop()
        provider.stop()


def test_without_the_provider_known_keys_go_on_and_nothing_is_accepted_unjudged(tmp_path):
    provider = Provider()
    hub = serve(tmp_path, provider.issuer)
    try:
        token = provider.token("ada-7f")
        ask(hub, token)
        provider.stop()
        time.sleep(REFRESH_SECONDS + 0.5)
        ask(hub, token)
    finally:
        hub.stop()
    # A new process has no keys: it cannot tell, and says so.
    hub = start(["serve", "--config", str(tmp_path / "hub.toml")], tmp_path, tmp_path / "again.log")
    try:
        for shown in (token, token[:-4]):
            assert refusal(hub, shown)[0] == "Unavailable", shown
        assert refusal(hub, "eyJ.eyJ.eyJ")[0] == "Unauthenticated"
    finally:
        hub.stop()


def test_a_stream_ends_with_its_token(served, provider):
    token = provider.token("ada-7f", ttl=6)
    reader = Reader(stream(served, token))
    reader.join(30)
    assert isinstance(reader.error, flight.FlightUnauthenticatedError), repr(reader.error)
    late = reader.ended_at - part(token, 1)["exp"]
    assert -1.0 <= late <= END_SECONDS_MAX, late
    assert refusal(served, token)[0] == "Unauthenticated"


def test_a_stream_ends_when_the_subject_is_taken_away(served, provider):
    token, other = provider.token("ada-7f"), provider.token("bob-11")
    reader, bystander = Reader(stream(served, token)), Reader(stream(served, other))
    ((issuer,),) = store(served, "SELECT issuer FROM identities WHERE subject = 'ada-7f'")
    store(served, "DELETE FROM identities WHERE subject = 'ada-7f'")
    began = time.monotonic()
    reader.join(10)
    assert isinstance(reader.error, flight.FlightUnauthenticatedError), repr(reader.error)
    assert reader.ended - began <= END_SECONDS_MAX
    assert bystander.is_alive()
    bystander.stream.cancel()
    assert refusal(served, token)[0] == "Unauthenticated"
    store(served, f"INSERT INTO identities VALUES ('{issuer}', 'ada-7f', 'alice')")
    ask(served, token)


def test_whom_a_subject_stands_for_is_in_the_audit(tmp_path, provider):
    hub = serve(tmp_path, provider.issuer)
    hub.stop()
    config = tmp_path / "hub.toml"
    config.write_text(config.read_text().replace('subject = "bob-11"', ""))
    hub = start(["serve", "--config", str(config)], tmp_path, tmp_path / "again.log")
    try:
        token = provider.token("bob-11")
        assert refusal(hub, token)[0] == "Unauthenticated"
        rows = store(hub, "SELECT event, person, client FROM audit WHERE event LIKE 'identity%' ORDER BY seq")
    finally:
        hub.stop()
    assert [row[:2] for row in rows] == [
        ("identity_added", "alice"), ("identity_added", "bob"), ("identity_removed", "bob")], rows
    assert rows[2][2].endswith(f"subject bob-11 of {provider.issuer}"), rows
    ended = subprocess.run([binary("flight-server"), "admin", "audit", "verify", "--config", str(config)],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_a_provider_must_prove_a_second_factor(tmp_path):
    config = tmp_path / "hub.toml"
    config.write_text('[[oidc]]\nissuer = "https://login.example.org"\naudiences = ["hub"]\n')
    ended = subprocess.run([binary("flight-server"), "serve", "--config", str(config)],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and "a password alone is not enough" in ended.stderr, ended.stderr
