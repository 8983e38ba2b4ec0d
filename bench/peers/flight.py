"""The two Python halves of `bench run transport`, run with the tests' environment.

`serve FOLDER`: Arrow's own Flight server (C++) with the rows of the folder's Arrow files in memory, in
batches of 65,536. Prints its port; ends with its standard input.

`read`: the client that reads both servers. Answers each line `{"address", "token", "sql", "check"}`
with `{"seconds", "rows"}`: of one DoGet, from the call to the last batch. Where `check` is set it
answers what the rows are instead: their bytes, and the sums of all columns.
"""

import json
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import flight


BATCH_ROWS = 65_536


def rows_of(folder: str) -> pa.Table:
    """The rows of a folder of Arrow files, each batch with memory of its own, as a server would hold it."""
    parts = []
    for path in sorted(Path(folder).glob("*.arrow")):
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            parts.append(reader.read_all())
    table = pa.concat_tables(parts)
    batches = []
    for start in range(0, table.num_rows, BATCH_ROWS):
        batches += table.slice(start, BATCH_ROWS).combine_chunks().to_batches()
    assert all(batch.num_rows == BATCH_ROWS for batch in batches[:-1])
    return pa.Table.from_batches(batches)


def serve(folder: str):
    table = rows_of(folder)

    class Server(flight.FlightServerBase):
        def do_get(self, context, ticket):
            return flight.RecordBatchStream(table)

    server = Server("grpc://127.0.0.1:0")
    print(server.port, flush=True)
    threading.Thread(target=server.serve, daemon=True).start()
    sys.stdin.read()
    server.shutdown()


def field(number: int, value: bytes) -> bytes:
    """A protobuf field of bytes, shorter than 16 KiB: pyarrow.flight does not speak Flight SQL."""
    length = len(value)
    assert length < 1 << 14
    digits = [length] if length < 128 else [length & 127 | 128, length >> 7]
    return bytes([number << 3 | 2, *digits]) + value


def statement(sql: str) -> bytes:
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return field(1, name) + field(2, field(1, sql.encode()))


def sums(table: pa.Table) -> list[str]:
    """Of each column: its sum, or that of its texts' lengths."""
    found = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_string(kind):
            column = pc.binary_length(column)
        elif pa.types.is_date(kind):
            column = column.cast(pa.int32())
        found.append(str(pc.sum(column).as_py()))
    return found


def read():
    clients = {}
    for line in sys.stdin:
        asked = json.loads(line)
        address = asked["address"]
        client = clients.get(address) or clients.setdefault(address, flight.FlightClient(f"grpc+tcp://{address}"))
        options = flight.FlightCallOptions()
        ticket = flight.Ticket(b"all")
        if asked["token"]:
            options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {asked['token']}".encode())])
            command = flight.FlightDescriptor.for_command(statement(asked["sql"]))
            ticket = client.get_flight_info(command, options).endpoints[0].ticket
        begun = time.perf_counter()
        reader = client.do_get(ticket, options)
        if asked["check"]:
            table = pa.Table.from_batches([chunk.data for chunk in reader], reader.schema)
            answer = {"rows": table.num_rows, "bytes": table.nbytes, "sums": sums(table)}
        else:
            rows = 0
            for chunk in reader:
                rows += chunk.data.num_rows
            answer = {"seconds": time.perf_counter() - begun, "rows": rows}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "serve" else read()
