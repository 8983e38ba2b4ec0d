"""A person with a token, on the level of Flight: what no driver sends, and without its garbage
collections (ADBC's collects after each result, which took more time than all else of a client)."""

import re
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import flight

from conftest import any_message, field, statement_query


@dataclass
class Outcome:
    """What a client saw: a table, or an error's code and text."""

    table: pa.Table | None
    code: str = ""
    text: str = ""

    @property
    def failed(self):
        return self.table is None


class Client:
    def __init__(self, hub, token):
        self.client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
        self.options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])

    def info(self, command):
        return self.client.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)

    def ticket(self, sql):
        return self.info(statement_query(sql)).endpoints[0].ticket.ticket

    def redeem(self, ticket):
        return self.client.do_get(flight.Ticket(ticket), self.options).read_all()

    def run(self, sql) -> Outcome:
        call = "GetFlightInfo"
        try:
            ticket = self.ticket(sql)
            call = "DoGet"
            return Outcome(self.redeem(ticket))
        except Exception as error:  # noqa: BLE001 - pyarrow has a type for some codes
            # `Flight returned invalid argument error, with message: …. gRPC client debug context: …`
            told = re.match(r"Flight returned ([\w ]+) error, with message: (.*?)(\. gRPC client|$)", str(error), re.S)
            code, text = told.group(1, 2) if told else (type(error).__name__, str(error))
            return Outcome(None, code, f"{text} ({call})")

    def act(self, name, body):
        return [bytes(result.body.to_pybytes()) for result in self.client.do_action(flight.Action(name, body), self.options)]

    def prepare(self, sql):
        reply = self.act("CreatePreparedStatement", any_message("ActionCreatePreparedStatementRequest", field(1, sql.encode())))[0]
        # The value of the Any, then the handle in it: 16 random bytes.
        start_of_handle = reply.index(b"\x0a\x10", reply.index(b"Result")) + 2
        return reply[start_of_handle:start_of_handle + 16]

    def info_prepared(self, handle):
        return self.info(any_message("CommandPreparedStatementQuery", field(1, handle)))

    def close(self):
        self.client.close()
