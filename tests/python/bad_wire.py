"""HTTP/2 frame by frame, with its headers read: how calls end that no library of gRPC would make."""

import struct
import time

import grpc

from bad_input import SERVICE, Answer
from test_bounds import ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RESET, SETTINGS, Http2, integer

CONTINUATION = 9

# The characters of Huffman's code in RFC 7541 by their number of bits, in the order of their codes.
HUFFMAN = {5: "012aceiost", 6: " %-./3456789=A_bdfghlmnpru", 7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz", 8: "&*,;XZ",
           10: '!"()?', 11: "'+|", 12: "#>", 13: "\0$@[]~", 14: "^}", 15: "<`{"}


def codes() -> dict[tuple[int, int], str]:
    made, code, before = {}, 0, 5
    for bits, characters in HUFFMAN.items():
        code <<= bits - before
        before = bits
        for character in characters:
            made[bits, code] = character
            code += 1
    return made


CODES = codes()
# Of `:status`, in the static table from its eighth place on.
STATUSES = ["200", "204", "206", "304", "400", "404", "500"]


def unpacked(packed: bytes) -> str:
    """Text of Huffman's code; what is not of ASCII is `\N{REPLACEMENT CHARACTER}` to the end."""
    out, bits, code = [], 0, 0
    for byte in packed:
        for place in range(7, -1, -1):
            bits, code = bits + 1, code << 1 | byte >> place & 1
            if (bits, code) in CODES:
                out.append(CODES[bits, code])
                bits = code = 0
    return "".join(out) + ("\N{REPLACEMENT CHARACTER}" if bits > 7 else "")


class Headers:
    """Reads headers as the server packs them (RFC 7541); names of the static table are numbers."""

    def __init__(self):
        self.table: list[tuple[str, str]] = []

    def read(self, block: bytes) -> dict[str, str]:
        self.block, self.at, found = block, 0, {}
        while self.at < len(block):
            first = block[self.at]
            if first & 128:
                name, value = self.named(self.number(7))
            elif first & 224 == 32:
                self.number(5)
                continue
            else:
                index = self.number(6 if first & 64 else 4)
                name = self.named(index)[0] if index else self.text()
                value = self.text()
                if first & 64:
                    self.table.insert(0, (name, value))
            found[name] = value
        return found

    def named(self, index: int) -> tuple[str, str]:
        if index > 61:
            return self.table[index - 62]
        return (":status", STATUSES[index - 8]) if 8 <= index < 15 else (f"#{index}", f"#{index}")

    def number(self, bits: int) -> int:
        most = (1 << bits) - 1
        value, self.at = self.block[self.at] & most, self.at + 1
        shift = 0
        while value >= most:
            byte, self.at = self.block[self.at], self.at + 1
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return value

    def text(self) -> str:
        packed = self.block[self.at] & 128
        size = self.number(7)
        value, self.at = self.block[self.at:self.at + size], self.at + size
        return unpacked(value) if packed else value.decode("latin-1")


def header(name: bytes, value: bytes) -> bytes:
    """A header as it is, kept in no table."""
    return b"\0" + integer(len(name)) + name + integer(len(value)) + value


CALL = {b":method": b"POST", b":scheme": b"http", b":authority": b"hub", b":path": SERVICE.encode() + b"ListActions",
        b"content-type": b"application/grpc", b"te": b"trailers"}
FRAME_BYTES_MAX = 16_384
# gRPC's codes by their numbers.
NAMES = {str(code.value[0]): code.name for code in grpc.StatusCode}


class Wire(Http2):
    """A connection of frames that tells how its calls end."""

    def __init__(self, address: str, window: int | None = None, source: str = ""):
        super().__init__(address, window, source)
        self.headers = Headers()

    def begin(self, stream: int, headers: dict[bytes, bytes], end=False):
        """The headers of a call, in as many frames as they need."""
        block = b"".join(header(*pair) for pair in {**CALL, **headers}.items())
        parts = [block[at:at + FRAME_BYTES_MAX] for at in range(0, len(block), FRAME_BYTES_MAX)]
        for index, part in enumerate(parts):
            flags = (END_HEADERS if index + 1 == len(parts) else 0) | (END_STREAM if end and not index else 0)
            self.frame(CONTINUATION if index else HEADERS, flags, stream, part)

    def frames(self, seconds: float):
        """Frames as they come, housekeeping answered, until nothing more does or it is closed."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                head = self.exactly(9)
                body = self.exactly(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == SETTINGS and not flags & ACK:
                    self.frame(SETTINGS, ACK, 0, b"")
                elif kind == PING and not flags & ACK:
                    self.frame(PING, ACK, 0, body)
            except (EOFError, ConnectionError, BrokenPipeError):
                yield "closed", 0, 0, b""
                return
            except TimeoutError:
                return
            yield kind, flags, struct.unpack(">I", head[5:])[0], body

    def answer(self, stream: int, seconds: float = 10) -> Answer:
        """How a call ends: a code of gRPC, or what HTTP/2 has instead."""
        replies, told = [], {}
        for kind, flags, of, body in self.frames(seconds):
            if kind == "closed":
                return Answer("closed", "", replies)
            if kind == GOAWAY:
                return Answer("goaway", f"{struct.unpack('>I', body[4:8])[0]} {body[8:].decode(errors='replace')}", replies)
            if kind == HEADERS:
                # Each block counts for the table, whosever it is.
                read_ = self.headers.read(body)
                told = {**told, **read_} if of == stream else told
            if of != stream:
                continue
            if kind == RESET:
                return Answer("reset", str(struct.unpack(">I", body)[0]), replies)
            if kind == 0 and body:
                replies.append(body)
            if flags & END_STREAM and kind in (0, HEADERS):
                status = told.get("grpc-status")
                return Answer(NAMES[status] if status else f"HTTP {told.get(':status')}", told.get("grpc-message", ""), replies)
        return Answer("silent", "", replies)
