"""Sign in with a client certificate: whose it is, and what ends it."""

import re
import socket
import sqlite3
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adbc_driver_flightsql import DatabaseOptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyarrow import flight

from conftest import Reader, binary, start, statement_query
from test_docs import blocks

# A second by contract, and what a loaded machine and a client's own buffers take.
END_SECONDS_MAX = 1.0 + 1.0
ROWS = 30_000
# More rows than anybody reads in the time of a test.
LONG = "SELECT a.ward FROM clinic.stays a CROSS JOIN clinic.stays b"
COUNT = "SELECT count(*) AS n FROM clinic.stays"

CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
zone = "inside"

[server.tls]
certificate = "server.pem"
key = "server.key"
client_ca = "authority.pem"
client_crl = "revoked.pem"

[[listener]]
flight = "127.0.0.1:{strict}"
zone = "inside"
client_certificates = "required"

[workers]
listen = "127.0.0.1:0"

[[dataset]]
name = "clinic"
producer = "tests"
folder = "clinic"
persons = "none"

[[person]]
id = "alice"
certificates = [{alice}]

[[person]]
id = "bob"
certificates = ["{bob}"]

[[project]]
id = "study"
members = ["alice", "bob"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"

[[habilitation]]
project = "study"
dataset = "clinic"
decision = "tests"
valid_from = "2000-01-01"
valid_to = "2999-01-01"
"""

DAY = timedelta(days=1)


class Certificate:
    """A certificate and its key."""

    def __init__(self, signed, key):
        self.signed = signed
        self.pem = signed.public_bytes(serialization.Encoding.PEM)
        self.key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    @property
    def fingerprint(self):
        return f"sha256:{self.signed.fingerprint(hashes.SHA256()).hex()}"


class Authority:
    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self.own = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name)
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256()))

    @property
    def pem(self):
        return self.own.public_bytes(serialization.Encoding.PEM)

    def sign(self, use=ExtendedKeyUsageOID.CLIENT_AUTH, days=(-1, 10), name="alice"):
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY).not_valid_after(now + days[1] * DAY)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .sign(self.key, hashes.SHA256()))
        return Certificate(signed, key)

    def revoke(self, *certificates):
        """The authority's list of revoked certificates."""
        now = datetime.now(UTC)
        revoked = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        revoked = revoked.last_update(now - DAY).next_update(now + DAY).add_extension(
            x509.CRLNumber(1), critical=False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        for certificate in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.signed.serial_number)
            revoked = revoked.add_revoked_certificate(entry.revocation_date(now - DAY).build())
        return revoked.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Setting:
    """A hub, its authority, and who has which certificate."""

    def __init__(self, folder):
        self.folder, self.authority = folder, Authority("clients")
        servers = Authority("servers")
        self.servers = servers.pem
        server = servers.sign(use=ExtendedKeyUsageOID.SERVER_AUTH, name="127.0.0.1")
        self.alice, self.second = self.authority.sign(), self.authority.sign()
        self.bob = self.authority.sign(name="bob")
        # Listed, and of no use: only the authority, the time and the use tell.
        self.wrong = {
            "another authority's": Authority("clients").sign(),
            "expired": self.authority.sign(days=(-10, -1)),
            "not valid yet": self.authority.sign(days=(1, 10)),
            "a server's": self.authority.sign(use=ExtendedKeyUsageOID.SERVER_AUTH),
            "revoked": self.authority.sign(),
        }
        self.unknown = self.authority.sign()
        stays = pa.table({"ward": ["a", "b", "c"] * (ROWS // 3)})
        (folder / "clinic" / "stays").mkdir(parents=True)
        pq.write_table(stays, folder / "clinic" / "stays" / "part.parquet")
        (folder / "server.pem").write_bytes(server.pem)
        (folder / "server.key").write_bytes(server.key)
        (folder / "authority.pem").write_bytes(self.authority.pem)
        self.revoke(self.wrong["revoked"])
        self.hub, self.strict = None, free_port()
        self.serve(self.alice, self.second)

    def serve(self, *of_alice):
        if self.hub is not None:
            self.hub.stop()
        listed = [*of_alice, *self.wrong.values()]
        config = self.folder / "hub.toml"
        config.write_text(CONFIG.format(
            strict=self.strict, bob=self.bob.fingerprint,
            alice=", ".join(f'"{certificate.fingerprint}"' for certificate in listed)))
        self.hub = start(["serve", "--config", str(config)], self.folder, self.folder / "serve.log")

    def revoke(self, *certificates):
        (self.folder / "revoked.pem").write_bytes(self.authority.revoke(*certificates))

    def connect(self, certificate=None, address=None, **options):
        """An ADBC connection, with a certificate if there is one."""
        options[DatabaseOptions.TLS_ROOT_CERTS.value] = self.servers.decode()
        if certificate is not None:
            options[DatabaseOptions.MTLS_CERT_CHAIN.value] = certificate.pem.decode()
            options[DatabaseOptions.MTLS_PRIVATE_KEY.value] = certificate.key.decode()
        return flightsql.connect(f"grpc+tls://{address or self.hub.flight}", db_kwargs=options, autocommit=True)

    def ask(self, certificate=None, sql=COUNT, **options):
        with self.connect(certificate, **options) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def refusal(self, certificate=None, **options):
        """The status of a call that must be refused: `Unavailable` where the handshake of TLS is."""
        with pytest.raises(Exception) as caught:
            self.ask(certificate, **options)
        return re.search(r"\((\w+); ", str(caught.value)).group(1)

    def flight(self, certificate):
        """A pyarrow client; it lets no certificate out where there is none."""
        own = {} if certificate is None else {"cert_chain": certificate.pem, "private_key": certificate.key}
        return flight.FlightClient(f"grpc+tls://{self.hub.flight}", tls_root_certs=self.servers, **own)

    def stream(self, certificate):
        """A long stream that has begun."""
        client = self.flight(certificate)
        info = client.get_flight_info(flight.FlightDescriptor.for_command(statement_query(LONG)))
        return client.do_get(info.endpoints[0].ticket)

    def token(self, person):
        said = subprocess.run(
            [binary("flight-server"), "admin", "token", "create", "--config", str(self.folder / "hub.toml"),
             "--person", person, "--project", "study", "--days", "2"],
            check=True, capture_output=True, text=True).stdout
        return re.search(r"hubpat_\S+", said).group(0)

    def store(self, statement):
        """What another process writes to the store, or reads of it."""
        with sqlite3.connect(self.folder / "hubflight-state" / "hub.sqlite", timeout=10) as database:
            rows = database.execute(statement).fetchall()
        database.close()
        return rows


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    made = Setting(tmp_path_factory.mktemp("mtls"))
    yield made
    made.hub.stop()


def test_a_certificate_alone_signs_in(setting):
    for certificate in (setting.alice, setting.second, setting.bob):
        assert setting.ask(certificate)["n"].to_pylist() == [ROWS]
    client = setting.flight(setting.alice)
    info = client.get_flight_info(flight.FlightDescriptor.for_command(statement_query(COUNT)))
    assert client.do_get(info.endpoints[0].ticket).read_all()["n"].to_pylist() == [ROWS]
    # Whose the statements were.
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        persons = [row[0] for row in setting.store("SELECT person FROM usage ORDER BY seq")]
        if len(persons) >= 4:
            break
        time.sleep(0.1)
    assert persons == ["alice", "alice", "bob", "alice"], persons


def test_the_readme_signs_in_with_a_certificate(setting, tmp_path, monkeypatch):
    for name, content in (("hub-ca.pem", setting.servers), ("alice.pem", setting.alice.pem),
                          ("alice.key", setting.alice.key)):
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(blocks("py")[1].replace("hub.example.org:31337", setting.hub.flight), scope)
    with scope["connection"] as connection, connection.cursor() as cursor:
        cursor.execute(COUNT)
        assert cursor.fetchone() == (ROWS,)


def test_without_a_certificate_there_are_the_other_ways(setting):
    assert setting.refusal() == "Unauthenticated"
    assert setting.ask(username="alice", password=setting.token("alice"))["n"].to_pylist() == [ROWS]


def test_other_certificates_are_refused(setting):
    token = setting.token("alice")
    for why, certificate in [*setting.wrong.items(), ("unknown", setting.unknown)]:
        # In the handshake of TLS, or as nobody's: never passed over for what else is shown.
        for options in ({}, {"username": "alice", "password": token}):
            late = why in ("unknown", "revoked")
            expected = "Unauthenticated" if late else "Unavailable"
            assert setting.refusal(certificate, **options) == expected, why
    setting.ask(setting.alice)


def test_a_credential_of_somebody_else_is_refused(setting):
    token = setting.token("bob")
    assert setting.ask(setting.bob, username="bob", password=token)["n"].to_pylist() == [ROWS]
    for options in ({"username": "bob", "password": token},
                    {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}):
        assert setting.refusal(setting.alice, **options) == "Unauthenticated"


def session(client, headers=()):
    """A bearer of the handshake: a call of no message but what its headers say."""
    class Nothing(flight.ClientAuthHandler):
        def __init__(self):
            super().__init__()
            self.token = None

        def authenticate(self, outgoing, incoming):
            self.token = incoming.read()

        def get_token(self):
            return b""

    handler = Nothing()
    client.authenticate(handler, flight.FlightCallOptions(headers=list(headers)))
    return [(b"authorization", b"Bearer " + handler.token)]


def test_a_session_is_of_no_use_without_its_certificate(setting):
    headers = session(setting.flight(setting.alice))
    descriptor = flight.FlightDescriptor.for_command(statement_query(COUNT))
    options = flight.FlightCallOptions(headers=headers)
    setting.flight(setting.alice).get_flight_info(descriptor, options)
    for stolen in (None, setting.second, setting.bob):
        with pytest.raises(flight.FlightUnauthenticatedError):
            setting.flight(stolen).get_flight_info(descriptor, options)


def test_a_revoked_certificate_ends_its_streams(setting):
    reader, bystander = Reader(setting.stream(setting.second)), Reader(setting.stream(setting.bob))
    setting.revoke(setting.wrong["revoked"], setting.second)
    began = time.monotonic()
    reader.join(10)
    assert isinstance(reader.error, flight.FlightUnauthenticatedError), repr(reader.error)
    assert reader.ended - began <= END_SECONDS_MAX
    assert setting.refusal(setting.second) == "Unauthenticated"
    assert bystander.is_alive()
    bystander.stream.cancel()
    setting.ask(setting.alice)


def test_a_certificate_that_is_taken_away_ends_its_streams(setting):
    reader = Reader(setting.stream(setting.alice))
    digits = setting.alice.fingerprint.removeprefix("sha256:")
    setting.store(f"DELETE FROM identities WHERE issuer = 'certificate' AND subject = '{digits}'")
    began = time.monotonic()
    reader.join(10)
    assert isinstance(reader.error, flight.FlightUnauthenticatedError), repr(reader.error)
    assert reader.ended - began <= END_SECONDS_MAX
    assert setting.refusal(setting.alice) == "Unauthenticated"
    setting.store(f"INSERT INTO identities VALUES ('certificate', '{digits}', 'alice')")
    setting.ask(setting.alice)


def test_a_certificate_that_is_no_longer_listed_is_nobodys(tmp_path):
    setting = Setting(tmp_path)
    try:
        headers = session(setting.flight(setting.alice))
        setting.serve(setting.second)
        setting.ask(setting.second)
        assert setting.refusal(setting.alice) == "Unauthenticated"
        with pytest.raises(flight.FlightUnauthenticatedError):
            setting.flight(setting.alice).get_flight_info(
                flight.FlightDescriptor.for_command(statement_query(COUNT)),
                flight.FlightCallOptions(headers=headers))
        rows = setting.store("SELECT person, client FROM audit WHERE event = 'identity_removed'")
        assert len(rows) == 1 and rows[0][0] == "alice" and setting.alice.fingerprint in rows[0][1], rows
    finally:
        setting.hub.stop()


def test_where_certificates_are_required_nobody_comes_without(setting):
    strict = {"address": f"127.0.0.1:{setting.strict}"}
    token = {"username": "bob", "password": setting.token("bob")}
    for beside in ({}, token):
        assert setting.ask(setting.bob, **strict, **beside)["n"].to_pylist() == [ROWS]
    # The handshake of TLS ends it: nothing of the call is looked at.
    assert setting.refusal(**strict, **token) == "Unavailable"
    assert setting.refusal(setting.wrong["expired"], **strict, **token) == "Unavailable"
    setting.ask(**token)


def test_a_client_without_a_certificate_is_told_why(setting):
    """The alert leaves although whoever wrote it lets go of the connection at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", setting.strict), timeout=5) as plain:
            with pytest.raises(ssl.SSLError, match="(?i)certificate.required"), context.wrap_socket(plain) as made:
                made.recv(100)
