"""One demo server for the suite, started from the built binary, and clients for it."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import adbc_driver_flightsql.dbapi as flightsql
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

ROOT = Path(__file__).resolve().parents[2]
# Each test, and `pass` or why it was skipped; written where HUBFLIGHT_MATRIX says, for tests/matrix.py.
OUTCOMES = {}
# Seconds until a started server must answer; making the data counts.
START_SECONDS_MAX = 120


def pytest_runtest_logreport(report):
    name = report.nodeid.rpartition("/")[2]
    if report.skipped:
        OUTCOMES[name] = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else "expected to fail"
    elif report.failed:
        OUTCOMES[name] = f"fail: {report.when}"
    elif report.when == "call":
        OUTCOMES.setdefault(name, "pass")


def pytest_sessionfinish():
    if "HUBFLIGHT_MATRIX" in os.environ:
        Path(os.environ["HUBFLIGHT_MATRIX"]).write_text(json.dumps(OUTCOMES, indent=1, ensure_ascii=False))


def binary(name: str) -> str:
    """A release binary in cargo's target folder."""
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    return str(Path(json.loads(metadata.stdout)["target_directory"]) / "release" / name)


def fresh_database() -> str | None:
    """The address of a new database on the PostgreSQL of the tests; None where they have none."""
    server = os.environ.get("HUBFLIGHT_TEST_POSTGRES_URL")
    if not server:
        return None
    name = f"hub_{uuid.uuid4().hex}"
    (psql,) = sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1:]
    subprocess.run([psql, "-q", "-d", server, "-c", f"CREATE DATABASE {name}"], check=True, timeout=60)
    return f"{server.rsplit('/', 1)[0]}/{name}"


@dataclass
class Hub:
    """A running server."""

    process: subprocess.Popen
    flight: str
    http: str
    dir: Path
    log: Path

    @property
    def uri(self) -> str:
        return f"grpc://{self.flight}"

    def connect(self, account: str, catalog: str | None = None, password: str | None = None, **options):
        """An ADBC connection of a demo account."""
        kwargs = {
            "username": account,
            "password": password if password is not None else f"{account}-demo",
            **options,
        }
        if catalog is not None:
            kwargs[DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "catalog"] = catalog
        return flightsql.connect(self.uri, db_kwargs=kwargs, autocommit=True)

    def query(self, account: str, sql: str, catalog: str | None = None, parameters=None):
        """The result of a query as an Arrow table."""
        with self.connect(account, catalog) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def stream(self, account: str, sql: str) -> flight.FlightStreamReader:
        """The open stream of a query, read by pyarrow.flight: batches as they arrive."""
        client = flight.FlightClient(f"grpc+tcp://{self.flight}")
        options = flight.FlightCallOptions(
            headers=[client.authenticate_basic_token(account, f"{account}-demo")])
        info = client.get_flight_info(flight.FlightDescriptor.for_command(statement_query(sql)), options)
        reader = client.do_get(info.endpoints[0].ticket, options)
        assert reader.schema.equals(info.schema, check_metadata=False)
        return reader

    def error(self, account: str, sql: str, catalog: str | None = None,
              parameters=None) -> tuple[str, str]:
        """(status, text) of a query that must fail."""
        with pytest.raises(Exception) as caught:
            self.query(account, sql, catalog, parameters)
        text = str(caught.value)
        status = re.match(r"([A-Z_]+)", text)
        # The driver's own words around the server's text.
        return (status.group(1) if status else "", text)

    def facts(self) -> dict:
        return json.loads((self.dir / "data" / "facts.json").read_text())

    def truth(self, name: str) -> Path:
        return self.dir / "data" / "truth" / name

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Reader(threading.Thread):
    """Reads a stream to its end, and remembers how and when it ended."""

    def __init__(self, stream: flight.FlightStreamReader):
        super().__init__(daemon=True)
        self.stream, self.rows, self.error = stream, 0, None
        # By the clock that never goes back, and by the one on the wall.
        self.ended, self.ended_at = None, None
        self.first = threading.Event()
        self.start()
        assert self.first.wait(30), "nothing came"

    def run(self):
        try:
            for chunk in self.stream:
                self.rows += chunk.data.num_rows
                self.first.set()
        except Exception as error:
            self.error = error
        self.ended, self.ended_at = time.monotonic(), time.time()


def field(number: int, value: bytes) -> bytes:
    """A protobuf field of bytes: pyarrow.flight does not speak Flight SQL."""
    length, digits = len(value), []
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]) + value


def any_message(name: str, value: bytes) -> bytes:
    """A message of Flight SQL inside a protobuf Any."""
    return field(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + field(2, value)


def statement_query(sql: str) -> bytes:
    return any_message("CommandStatementQuery", field(1, sql.encode()))


def start(arguments: list[str], dir: Path, log: Path) -> Hub:
    """Starts a server on free ports and waits until it says where it listens."""
    with open(log, "ab") as output:
        offset = output.tell()
        process = subprocess.Popen(
            [binary("flight-server"), *arguments],
            stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "HUBFLIGHT_LOG": "warn"},
            # SIGXFSZ stays ignored, as Python has it: a test takes the disk away.
            restore_signals=False,
        )
    deadline = time.monotonic() + START_SECONDS_MAX
    pattern = re.compile(r"Flight SQL on (\S+), pages on http://([^/\s]+)/")
    while time.monotonic() < deadline:
        said = log.read_bytes()[offset:].decode(errors="replace")
        found = pattern.search(said)
        if found:
            return Hub(process, found.group(1), found.group(2), dir, log)
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{said}")
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the server did not start in {START_SECONDS_MAX} s:\n{said}")


def start_demo(dir: Path, scale: float = 0.1, *extra: str) -> Hub:
    return start(
        ["demo", "--dir", str(dir), "--scale", str(scale), "--flight-addr", "127.0.0.1:0",
         "--http-addr", "127.0.0.1:0", "--worker-addr", "127.0.0.1:0", *extra],
        dir, dir.parent / f"{dir.name}.log",
    )


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("demo") / "hub")
    yield running
    running.stop()
    said = running.log.read_text()
    complaints = [line for line in said.splitlines() if " ERROR " in line]
    assert not complaints, "the server complained:\n" + "\n".join(complaints)


@pytest.fixture(scope="session")
def tls_hub(tmp_path_factory):
    """A small demo with TLS; its authority is `tls/ca.pem` in its folder."""
    running = start_demo(tmp_path_factory.mktemp("tls") / "hub", 0.01, "--tls")
    yield running
    running.stop()
