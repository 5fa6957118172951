"""HTTP/3 of aioquic, which has frames and QPACK of its own, as a client and as a server.

The client asks what the JSON list on its standard input says, each entry {"method", "path", "headers"}, all at once over
one connection, and prints a list of what came: {"status", "headers", "length", "sha256", "text"}, or {"reset": CODE}.

The server prints {"port": N}, answers GET of /large with 5,000,000 bytes, a POST with its body, the rest with 404, and
runs until its standard input is closed.
"""

import argparse
import asyncio
import hashlib
import json
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, StreamReset

# What is told of short bodies.
TEXT_LEN_MAX = 200


class Client(QuicConnectionProtocol):
    """Requests over one connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}

    async def ask(self, method, path, headers):
        stream = self._quic.get_next_available_stream_id()
        done = self._loop.create_future()
        self.answers[stream] = ({"headers": {}}, bytearray(), done)
        fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        fields += headers.items()
        self.http.send_headers(stream, [(n.encode(), v.encode()) for n, v in fields], end_stream=True)
        self.transmit()
        return await done

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.settle(event.stream_id, {"reset": event.error_code})
        elif isinstance(event, ConnectionTerminated):
            for stream in list(self.answers):
                self.settle(stream, {"closed": event.error_code, "reason": event.reason_phrase})
        for http_event in self.http.handle_event(event):
            self.http_event_received(http_event)

    def http_event_received(self, event):
        if event.stream_id not in self.answers:
            return
        answer, body, _ = self.answers[event.stream_id]
        if isinstance(event, HeadersReceived):
            for name, value in event.headers:
                answer["headers"][name.decode()] = value.decode()
        elif isinstance(event, DataReceived):
            body += event.data
        if event.stream_ended:
            answer["status"] = int(answer["headers"].pop(":status"))
            answer["length"] = len(body)
            answer["sha256"] = hashlib.sha256(body).hexdigest()
            if len(body) <= TEXT_LEN_MAX:
                answer["text"] = body.decode(errors="replace")
            self.settle(event.stream_id, answer)

    def settle(self, stream, answer):
        _, _, done = self.answers.pop(stream)
        if not done.done():
            done.set_result(answer)


class Server(QuicConnectionProtocol):
    """Answers on one connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = None
        self.requests = {}

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if self.http is None:
            return
        for http_event in self.http.handle_event(event):
            stream = http_event.stream_id
            if isinstance(http_event, HeadersReceived):
                self.requests[stream] = dict(http_event.headers)
            if http_event.stream_ended:
                self.answer(stream, self.requests.pop(stream))
        self.transmit()

    def answer(self, stream, headers):
        is_large = headers[b":path"] == b"/large"
        status = b"200" if is_large else b"404"
        # Interim responses come before the one that counts.
        self.http.send_headers(stream, [(b":status", b"103"), (b"link", b"</style.css>")])
        self.http.send_headers(stream, [(b":status", status), (b"x-agent", headers[b"user-agent"])])
        self.http.send_data(stream, b"aioquic!" * 625_000 if is_large else b"no", end_stream=True)


async def run_client(args):
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, server_name="localhost")
    configuration.load_verify_locations(args.ca)
    requests = json.load(sys.stdin)
    async with connect("127.0.0.1", args.port, configuration=configuration, create_protocol=Client) as client:
        asked = (client.ask(r["method"], r["path"], r.get("headers", {})) for r in requests)
        print(json.dumps(await asyncio.wait_for(asyncio.gather(*asked), 60)))


async def run_server(args):
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=False)
    configuration.load_cert_chain(args.cert, args.key)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    print(json.dumps({"port": server._transport.get_extra_info("sockname")[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    sides = parser.add_subparsers(required=True)
    client = sides.add_parser("client")
    client.add_argument("--port", type=int, required=True)
    client.add_argument("--ca", required=True)
    client.set_defaults(run=run_client)
    server = sides.add_parser("server")
    server.add_argument("--cert", required=True)
    server.add_argument("--key", required=True)
    server.set_defaults(run=run_server)
    args = parser.parse_args()
    asyncio.run(args.run(args))


if __name__ == "__main__":
    main()
