"""Arrow that no library writes, for tables and as parameters: headers that claim what is not there,
values that point outside, messages out of their order, schemas that do not fit. Nothing of it is stored."""

import random
import struct

import numpy as np
import pyarrow as pa
import pytest

from bad_input import LONG, Calls, Field, Watch, alive, chance, change, data, message, parts, broken
from conftest import any_message, start_demo
from test_ingest import ingest

ROWS = 1_237
OFFSETS = 4 * (ROWS + 1)
SENT, BOUND = "the rows for a table", "the bound parameters"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("rows") / "hub", 0.01)
    yield running
    running.stop()
    # Arrow's decoder asserts some of what it is told, which its caller catches.
    assert not broken(running, but="/arrow-")


@pytest.fixture()
def calls(hub):
    made = Calls(hub, "hospital")
    yield made
    alive(made)
    made.close()


# --- ways in ---

class Door:
    """A way in for rows: a table that is created, or the parameters of a statement."""

    def __init__(self, calls, kind, columns=1):
        self.calls, self.kind = calls, kind
        if kind == "ingest":
            self.command, self.named = ingest("bad", 1, "replace"), SENT
            change(calls, "DROP TABLE IF EXISTS space.bad")
        else:
            handle = calls.prepare("SELECT " + ", ".join(["?"] * columns))
            self.command, self.named = any_message("CommandPreparedStatementQuery", message(Field(1, handle))), BOUND

    def put(self, sent, descriptor=True):
        first = [data(command=self.command)] if descriptor else []
        return self.calls.send("DoPut", *first, *(one if isinstance(one, bytes) else data(*one) for one in sent), b"")

    def refuses(self, sent, *words, codes=("INVALID_ARGUMENT",)):
        answer = self.put(sent)
        assert answer.code in codes, answer
        assert any(word in answer.text for word in words or (self.named,)), answer
        assert "panicked" not in answer.text, answer
        if self.kind == "ingest":
            gone = self.calls.run("SELECT * FROM space.bad")
            assert gone.code == "NOT_FOUND", gone
        return answer

    def takes(self, sent):
        answer = self.put(sent)
        assert answer.code == "OK", answer
        if self.kind == "ingest":
            for sql in ("SELECT count(*) AS n FROM space.bad", "SELECT * FROM space.bad", "DROP TABLE space.bad"):
                told = self.calls.run(sql) if sql.startswith("SELECT") else change(self.calls, sql)
                assert told.code == "OK", (sql, told)


DOORS = pytest.mark.parametrize("kind", ["ingest", "bind"])


def rows():
    return pa.record_batch({
        "n": pa.array(range(ROWS), pa.int64()), "t": pa.array([f"é{i}" for i in range(ROWS)]),
        "l": pa.array([[i, i + 1] for i in range(ROWS)], pa.list_(pa.int32())),
        "v": pa.array([f"a view that is longer than {i}" for i in range(ROWS)], pa.string_view()),
        "d": pa.array([f"d{i % 3}" for i in range(ROWS)]).dictionary_encode(),
        "b": pa.array([i % 2 == 0 for i in range(ROWS)]),
    })


def laid(header, body):
    """Where the places of the buffers stand in a header, and the places: offset and length."""
    for count in range(40, 0, -1):
        for at in range(0, len(header) - 16 * count + 1, 4):
            found = [struct.unpack_from("<qq", header, at + 16 * index) for index in range(count)]
            ends = [offset + -(-length // 8) * 8 for offset, length in found]
            if found[0][0] == 0 and ends[-1] == len(body) and [offset for offset, _ in found[1:]] == ends[:-1] and all(
                    length >= 0 for _, length in found) and struct.unpack_from("<I", header, at - 4)[0] == count:
                return at, found
    raise AssertionError("no buffers found")


def put_in(taken, at, layout, *values):
    made = bytearray(taken)
    struct.pack_into(layout, made, at, *values)
    return bytes(made)


def texts_of(body, places):
    """Where the offsets of the column of texts stand, and its bytes."""
    index = next(index for index, (_, length) in enumerate(places) if length == OFFSETS)
    return places[index][0], places[index + 1]


# --- headers ---

@DOORS
def test_rows_that_are_said_to_be_others_are_refused(hub, calls, kind):
    door, sent = Door(calls, kind, 6), parts(rows())
    door.takes(sent)
    header, body = sent[-1]
    counts = [at for at in range(0, len(header) - 8, 4) if struct.unpack_from("<q", header, at)[0] == ROWS]
    assert len(counts) >= 7, "one of the batch, one of each column"
    with Watch(hub):
        for value in (-1, -2**63, ROWS + 1, 10 * ROWS, 2**31, 2**40, 2**62, 2**63 - 1):
            everywhere = header
            for at in counts:
                everywhere = put_in(everywhere, at, "<q", value)
            door.refuses([*sent[:-1], (everywhere, body)], door.named, "bytes of parameters", "memory",
                         codes=("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))
            for at in counts:
                door.refuses([*sent[:-1], (put_in(header, at, "<q", value), body)], door.named, "bytes of parameters", "memory",
                             codes=("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))


@DOORS
def test_buffers_that_are_not_there_are_refused(hub, calls, kind):
    door, sent = Door(calls, kind, 6), parts(rows())
    header, body = sent[-1]
    at, places = laid(header, body)
    assert len(places) > 12
    used = [index for index, (_, length) in enumerate(places) if length]
    with Watch(hub):
        for index in used:
            for wrong in (-1, -2**63, len(body) + 8, 2**31, 2**40, 2**62, 2**63 - 1):
                for change in (put_in(header, at + 16 * index, "<q", wrong), put_in(header, at + 16 * index + 8, "<q", wrong)):
                    door.refuses([*sent[:-1], (change, body)])
            # Too short for its rows.
            door.refuses([*sent[:-1], (put_in(header, at + 16 * index + 8, "<q", 8), body)])
        # As many as are said, and bodies that are shorter.
        for count in (0, 1, len(places) - 1, 2**31 - 1, 2**32 - 1):
            door.refuses([*sent[:-1], (put_in(header, at - 4, "<I", count), body)])
        for end in (0, 8, len(body) // 2, len(body) - 8):
            door.refuses([*sent[:-1], (header, body[:end])])


@DOORS
def test_headers_that_are_cut_are_refused(hub, calls, kind):
    door, sent = Door(calls, kind, 6), parts(rows())
    with Watch(hub):
        for index, (header, body) in enumerate(sent):
            for end in sorted(chance(index).sample(range(1, len(header)), 12)):
                door.refuses([*sent[:index], (header[:end], body), *sent[index + 1:]])
            for other in (b"\0" * len(header), b"\xff" * len(header), header[::-1], b"x", b"\xff\xff\xff\x7f" + header, header[4:]):
                door.refuses([*sent[:index], (other, body), *sent[index + 1:]])


# --- values ---

@DOORS
def test_values_that_point_outside_are_refused(hub, calls, kind):
    door, sent = Door(calls, kind, 6), parts(rows())
    header, body = sent[-1]
    _, places = laid(header, body)
    offsets, (texts, size) = texts_of(body, places)
    lists = next(offset for index, (offset, length) in enumerate(places) if length == OFFSETS and offset > offsets)
    views = next(offset for offset, length in places if length == 16 * ROWS)
    keys = next(offset for index, (offset, length) in enumerate(places) if length == 4 * ROWS and offset > views)
    bad = {
        "a text before its column": put_in(body, offsets, "<i", -1),
        "a text after its column": put_in(body, offsets + 4 * ROWS, "<i", size + 1),
        "a text of all memory": put_in(body, offsets + 4 * ROWS, "<i", 2**31 - 1),
        "a text that goes back": put_in(body, offsets + 4 * 600, "<ii", 3_000, 4),
        # The first text begins with a character of two bytes.
        "half a character": put_in(body, texts + 1, "<B", 0x28),
        "no character": put_in(body, texts, "<BB", 0xFF, 0xFE),
        "a surrogate": put_in(body, texts, "<BBB", 0xED, 0xA0, 0x80),
        "a list before its items": put_in(body, lists, "<i", -5),
        "a list after its items": put_in(body, lists + 4 * ROWS, "<i", 2 * ROWS + 1),
        "a list that goes back": put_in(body, lists + 4 * 600, "<i", 2**30),
        "a view of another buffer": put_in(body, views + 8, "<i", 7),
        "a view before its buffer": put_in(body, views + 8, "<i", -1),
        "a view after its buffer": put_in(body, views + 12, "<i", 2**31 - 1),
        "a view of all memory": put_in(body, views, "<i", 2**31 - 1),
        "a view of less than nothing": put_in(body, views, "<i", -1),
        "a view whose beginning is another's": put_in(body, views + 4, "<i", 0),
        "a word before the dictionary": put_in(body, keys, "<i", -1),
        "a word after the dictionary": put_in(body, keys + 4 * 500, "<i", 3),
        "a word far after it": put_in(body, keys + 4 * (ROWS - 1), "<i", 2**31 - 1),
    }
    with Watch(hub):
        for what, wrong in bad.items():
            assert len(wrong) == len(body) and wrong != body, what
            # Views of all memory are counted before they are looked at.
            codes = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")[:2 if "view" in what else 1]
            door.refuses([*sent[:-1], (header, wrong)], door.named, what, codes=codes)
    door.takes(sent)


def test_values_that_no_type_has_are_refused_or_kept_as_they_are(hub, calls):
    """Of types with more bytes than values: times beyond all calendars, digits beyond the precision."""
    door = Door(calls, "ingest")
    extremes = [2**63 - 1, -2**63, 2**31 - 1, 10**18, -1]
    kinds = [pa.timestamp("s"), pa.timestamp("ns", "Europe/Paris"), pa.timestamp("us", "Mars/Olympus"), pa.date64(), pa.time64("ns"),
             pa.duration("s"), pa.decimal64(5, 2)]
    with Watch(hub):
        for kind in kinds:
            array = pa.Array.from_buffers(kind, len(extremes), [None, pa.py_buffer(struct.pack("<5q", *extremes))])
            answer = door.put(parts(pa.record_batch([array], names=["a"])))
            assert answer.code == "OK" or answer.code == "INVALID_ARGUMENT" and "a" in answer.text, (kind, answer)
            if answer.code == "OK":
                told = calls.run("SELECT * FROM space.bad")
                assert told.code in ("OK", "INVALID_ARGUMENT"), (kind, told)
                # What is read is what was sent, or an error about a value.
                told = calls.run("SELECT min(a) AS a, max(CAST(a AS VARCHAR)) AS b, count(*) AS n FROM space.bad")
                assert told.code in ("OK", "INVALID_ARGUMENT"), (kind, told)
    change(calls, "DROP TABLE IF EXISTS space.bad")


# --- order ---

@DOORS
def test_messages_out_of_their_order_are_refused(hub, calls, kind):
    door = Door(calls, kind, 6)
    schema, dictionary, batch = parts(rows())
    other = parts(pa.record_batch({"x": [1]}))
    nested = parts(pa.record_batch({"x": pa.array(["a", "b"]).dictionary_encode()}))
    deltas = parts(pa.Table.from_batches([
        pa.record_batch({"x": pa.DictionaryArray.from_arrays([0], ["a"])}),
        pa.record_batch({"x": pa.DictionaryArray.from_arrays([1], ["a", "b"])})]), emit_dictionary_deltas=True)
    with Watch(hub):
        door.refuses([dictionary, batch])
        door.refuses([batch])
        door.refuses([dictionary])
        door.refuses([schema, batch])
        door.refuses([schema, batch, dictionary])
        door.refuses([schema, schema, dictionary, batch])
        door.refuses([schema, dictionary, schema, batch])
        door.refuses([schema, dictionary, batch, other[0], other[1]])
        door.refuses([schema, nested[1], batch])
        door.refuses([other[0], dictionary, batch])
        door.refuses([other[0], batch])
        door.refuses([schema, dictionary, (batch[0], dictionary[1])])
        door.refuses([schema, (dictionary[0], batch[1]), (batch[0], b"")])
        door.refuses(deltas, "pieces")
        tensor = pa.BufferOutputStream()
        pa.ipc.write_tensor(pa.Tensor.from_numpy(np.zeros((2, 2))), tensor)
        one = pa.ipc.MessageReader.open_stream(tensor.getvalue()).read_next_message()
        door.refuses([(one.metadata.to_pybytes(), one.body.to_pybytes())])
        door.refuses([schema, dictionary, (one.metadata.to_pybytes(), one.body.to_pybytes())])
        # Dictionaries that are sent again are the client's affair.
        door.takes([schema, dictionary, dictionary, batch, dictionary, batch])
        # Without a descriptor, with one of nothing, and with one that comes later.
        for sent in ([data(*schema)], [data()], [data(metadata=b"x" * (10 << 20))], [data(*schema), data(command=door.command)]):
            answer = calls.send("DoPut", *sent, data(*batch))
            assert answer.code == "INVALID_ARGUMENT" and "descriptor" in answer.text, answer
        answer = calls.send("DoPut", data(*schema, command=b"x"), data(*batch))
        assert answer.code == "INVALID_ARGUMENT" and "no Flight SQL command" in answer.text, answer


# --- schemas ---

def test_schemas_that_do_not_fit_the_table_are_refused(hub, calls):
    good = pa.record_batch({"n": pa.array([1], pa.int32()), "t": ["a"], "l": pa.array([[1]], pa.list_(pa.int64()))})
    door = Door(calls, "ingest")
    assert door.put(parts(good)).code == "OK"
    door.command = ingest("bad", 2, "append")
    wrong = {
        "lack": good.select(["n", "t"]), "has not": good.append_column("more", pa.array([1])), "two columns": good.append_column("n", pa.array([1])),
        "has type": good.set_column(0, "n", pa.array([[1]])), "column `t`": good.set_column(1, "t", pa.array([{"a": 1}])),
        "column `l`": good.set_column(2, "l", pa.array([[["a"]]])), "column `n`": good.set_column(0, "n", pa.array([2**40])),
        "column `t`; send": good.rename_columns(["n", "T", "l"]), "`t`; send all": good.rename_columns(["n", "", "l"]), "not taken": good.append_column(
            "u", pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])),
    }
    with Watch(hub):
        for words, batch in wrong.items():
            answer = door.put(parts(batch))
            assert answer.code == "INVALID_ARGUMENT" and words in answer.text, (words, answer)
        # The second batch is not what the schema says.
        answer = door.put([parts(good)[0], parts(good)[1], parts(wrong["has type"])[1]])
        assert answer.code == "INVALID_ARGUMENT" and SENT in answer.text, answer
    told = calls.run("SELECT count(*) AS n FROM space.bad HAVING count(*) = 1")
    assert told.code == "OK" and len(told.replies) == 2, "only the first"
    change(calls, "DROP TABLE space.bad")


@DOORS
@pytest.mark.parametrize("what", ["lists", "structs", "maps"])
def test_types_within_types_without_end_are_refused(hub, calls, kind, what):
    wrap = {"lists": pa.list_, "structs": lambda inner: pa.struct([("a", inner)]), "maps": lambda inner: pa.map_(pa.int8(), inner)}[what]
    door = Door(calls, kind)
    with Watch(hub):
        for depth in (20, 60, 70, 500, 3_000):
            deep = pa.int64()
            for _ in range(depth):
                deep = wrap(deep)
            # Without rows, of which Arrow itself writes none that are so deep.
            written = pa.schema([("a", deep)]).serialize().to_pybytes()
            answer = door.put([(written[8:], b"")])
            assert answer.code == "OK" or answer.refused and len(answer.text) > 10, (depth, answer)
            assert depth < 100 or answer.code == "INVALID_ARGUMENT", (depth, answer.code)
    if kind == "ingest":
        change(calls, "DROP TABLE IF EXISTS space.bad")


def test_columns_count_by_their_bytes_and_not_by_those_of_their_message(hub, calls):
    """A table of a thousand columns in one message, each of which was said to hold all of it."""
    batch = pa.record_batch([pa.array([float(index) for index in range(1_000)])] * 1_000, names=[f"c{index}" for index in range(1_000)])
    with Watch(hub, 1_000):
        Door(calls, "ingest").takes(parts(batch))


NAMES = {
    "long": ["x" * (1 << 20)], "empty": [""], "zero": ["a\0b"], "lines": ["a\nb"], "quotes": ['a"; DROP TABLE x; --'],
    "accents": ["é" * 500], "direction": ["\u202egpj.exe"], "the same": ["a", "a"], "as a path": ["../../etc/passwd"],
}


@pytest.mark.parametrize("what", NAMES)
def test_columns_of_any_name_are_stored_or_refused(hub, calls, what):
    door = Door(calls, "ingest")
    batch = pa.record_batch([pa.array([1])] * len(NAMES[what]), names=NAMES[what])
    with Watch(hub):
        answer = door.put(parts(batch))
        assert answer.code == "OK" or answer.refused and len(answer.text) > 10, answer
        if answer.code == "OK":
            for sql in ("SELECT * FROM space.bad", "SELECT column_name FROM information_schema.columns WHERE table_name = 'bad'"):
                assert calls.run(sql).code == "OK"
    assert (answer.code == "OK") == (what in ("quotes", "as a path")) and (answer.code == "OK" or "column" in answer.text), answer
    change(calls, "DROP TABLE IF EXISTS space.bad")


def test_metadata_of_schemas_is_not_kept_without_end(hub, calls):
    """Notes beside a schema, which every ticket and answer would carry."""
    door = Door(calls, "ingest")
    noted = pa.schema([pa.field("a", pa.int64(), metadata={b"\xff": b"x" * (5 << 20)})], metadata={b"k": b"y" * (5 << 20)})
    with Watch(hub, 300):
        answer = door.put(parts(pa.record_batch([pa.array([1])], schema=noted)))
        assert answer.code == "OK" or answer.refused, answer
        if answer.code == "OK":
            told = calls.run("SELECT * FROM space.bad")
            assert told.code == "OK" and sum(map(len, told.replies)) < 100_000, "it comes back"
    change(calls, "DROP TABLE IF EXISTS space.bad")


# --- everything at once ---

@DOORS
def test_rows_that_are_spoiled_at_random_are_an_error_or_rows(hub, calls, kind):
    door, sent = Door(calls, kind, 6), parts(rows())
    luck: random.Random = chance(kind)
    codes = {}
    with Watch(hub, 400):
        for count in range(5_000 if LONG else 250):
            if count % 500 == 499:
                calls.reconnect()
            spoiled = [[bytearray(header), bytearray(body)] for header, body in sent]
            for _ in range(luck.randint(1, 4)):
                header, body = luck.choice(spoiled)
                # What the headers say is more fragile than what the values are.
                target = header if luck.random() < 0.7 or not body else body
                at = luck.randrange(len(target))
                match luck.randrange(4):
                    case 0:
                        target[at] ^= 1 << luck.randrange(8)
                    case 1:
                        target[at] = luck.choice((0, 1, 127, 128, 255))
                    case 2:
                        target[at:at + 8] = struct.pack("<q", luck.choice((-1, 0, 1, 2**31, 2**62, ROWS)))[:len(target) - at]
                    case 3:
                        del target[at:]
                if not header:
                    header += b"\0"
            answer = door.put([(bytes(header), bytes(body)) for header, body in spoiled])
            assert answer.code == "OK" or answer.refused, answer
            assert "panicked" not in answer.text and "failed on this request" not in answer.text, answer
            codes[answer.code] = codes.get(answer.code, 0) + 1
            if answer.code == "OK" and kind == "ingest":
                told = calls.run("SELECT * FROM space.bad")
                assert told.code == "OK", told
    print(codes)
    assert codes["INVALID_ARGUMENT"] > 50
    change(calls, "DROP TABLE IF EXISTS space.bad")


@DOORS
def test_a_stream_of_tiny_messages_is_no_more_than_its_rows(hub, calls, kind):
    """Messages of nothing, notes alone, and batches without a row, between two that count."""
    door = Door(calls, kind)
    schema, one = parts(pa.record_batch({"a": [1]}))
    _, none = parts(pa.record_batch({"a": pa.array([], pa.int64())}))
    tiny = {"nothing": b"", "a note": data(metadata=b"x"), "no row": data(*none)}
    with Watch(hub):
        for what, each in tiny.items():
            count = 6_000
            answer = door.put([schema, one, *[each] * count, one])
            assert answer.code == "OK", (what, answer)
        answer = door.put([schema, *[one] * 2_000])
        assert answer.code == "OK", answer
    if kind == "ingest":
        told = calls.run("SELECT count(*) AS n FROM space.bad HAVING count(*) = 2000")
        assert told.code == "OK" and len(told.replies) == 2
        change(calls, "DROP TABLE space.bad")
