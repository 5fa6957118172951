"""aioquic as an endpoint of the interop matrix, with the same command line as the other stacks' programs."""

import argparse
import asyncio
import os
import sys
from urllib.parse import urlsplit

from aioquic.asyncio import connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite

import client
import server
from common import HQ, RESERVED_VERSION, say

V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2


class Http3Server(server.Protocol):
    """HTTP/3 instead of HTTP/0.9."""

    http = None

    def quic_event_received(self, event):
        if isinstance(event, events.ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if self.http is None:
            return
        for http_event in self.http.handle_event(event):
            # The end of a GET may come later; nothing else does.
            if isinstance(http_event, HeadersReceived):
                self.respond(http_event.stream_id, dict(http_event.headers)[b":path"].decode())
        self.transmit()

    def respond(self, stream_id, path):
        try:
            with open(os.path.join(self.root, os.path.basename(path)), "rb") as file:
                content, status = file.read(), b"200"
        except OSError:
            content, status = b"", b"404"
        self.http.send_headers(stream_id, [(b":status", status)])
        self.http.send_data(stream_id, content, True)


class Http3Client(client.Protocol):
    """The same for requests."""

    http = None

    def quic_event_received(self, event):
        if isinstance(event, events.ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if isinstance(event, (events.HandshakeCompleted, events.ConnectionTerminated)):
            super().quic_event_received(event)
        if self.http is None:
            return
        for http_event in self.http.handle_event(event):
            data, done = self.streams[http_event.stream_id]
            if isinstance(http_event, HeadersReceived) and dict(http_event.headers)[b":status"] != b"200":
                done.set_exception(client.Failure(f"{http_event.headers}"))
            elif isinstance(http_event, DataReceived):
                data += http_event.data
            if http_event.stream_ended and not done.done():
                done.set_result(bytes(data))

    async def get(self, path, out):
        stream_id = self._quic.get_next_available_stream_id()
        done = asyncio.get_running_loop().create_future()
        self.streams[stream_id] = (bytearray(), done)
        pseudo = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": path}
        self.http.send_headers(stream_id, [(k.encode(), v.encode()) for k, v in pseudo.items()], True)
        self.transmit()
        with open(os.path.join(out, os.path.basename(path)), "wb") as file:
            file.write(await done)


def configure(args, is_client):
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN if args.http3 else [HQ],
        is_client=is_client,
        # As much as the window of the other stacks: one round trip's worth of a fast link.
        max_data=16 << 20,
        max_stream_data=4 << 20,
    )
    if args.chacha20:
        configuration.cipher_suites = [CipherSuite.CHACHA20_POLY1305_SHA256]
    configuration.supported_versions = [V2, V1] if args.v2 else [V1]
    if args.key_log:
        configuration.secrets_log_file = open(args.key_log, "a", buffering=1)
    return configuration


async def run_server(args):
    configuration = configure(args, False)
    configuration.load_cert_chain(args.cert, args.key)
    server.Protocol.root = args.root
    tickets = server.Tickets()
    host, port = args.bind.rsplit(":", 1)
    running = await serve(
        host.strip("[]"),
        int(port),
        configuration=configuration,
        create_protocol=Http3Server if args.http3 else server.Protocol,
        session_ticket_fetcher=tickets.pop,
        session_ticket_handler=tickets.add,
        retry=args.retry,
    )
    say(event="listening", port=running._transport.get_extra_info("sockname")[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def fetch(configuration, args, paths, tickets, early=False, update=False):
    """One connection that fetches `paths`. `update`: the first one, then the keys are updated, then the others."""
    host, port = args.connect.rsplit(":", 1)
    configuration.session_ticket = tickets[-1] if tickets else None
    async with connect(
        host.strip("[]"),
        int(port),
        configuration=configuration,
        create_protocol=Http3Client if args.http3 else client.Protocol,
        session_ticket_handler=tickets.append,
        wait_connected=not early,
    ) as protocol:
        if update:
            await protocol.get(paths[0], args.out)
            protocol._quic.request_key_update()
            paths = paths[1:]
        await asyncio.gather(*(protocol.get(path, args.out) for path in paths))
        handshake = await protocol.handshake
        while args.resume and not tickets or args.zero_rtt and not tickets:
            await asyncio.sleep(0.01)
        protocol.close()
        await protocol.wait_closed()
    return {"resumed": handshake.session_resumed, "early_data": handshake.early_data_accepted}


async def run_client(args):
    configuration = configure(args, True)
    configuration.server_name = args.server_name
    configuration.load_verify_locations(args.ca)
    # Other stacks give up after 30 s of silence; blackouts are shorter.
    configuration.idle_timeout = 30
    if args.v2:
        configuration.original_version = V1
    if args.unknown_version:
        configuration.original_version = RESERVED_VERSION
        configuration.supported_versions = [RESERVED_VERSION, V1]
    paths = [urlsplit(url).path for url in args.urls]
    tickets, connections = [], []
    if args.multiconnect:
        for path in paths:
            connections.append(await fetch(configuration, args, [path], []))
    elif args.resume or args.zero_rtt:
        connections.append(await fetch(configuration, args, paths[:1], tickets))
        connections.append(await fetch(configuration, args, paths[1:], tickets, early=args.zero_rtt))
    else:
        connections.append(await fetch(configuration, args, paths, tickets, update=args.key_update))
    say(connections=connections)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    for role in ["server", "client"]:
        options = roles.add_parser(role)
        for flag in ["--chacha20", "--v2", "--http3"]:
            options.add_argument(flag, action="store_true")
        options.add_argument("--key-log")
        for name in ["--root", "--bind", "--cert", "--key"] if role == "server" else ["--connect", "--ca", "--out"]:
            options.add_argument(name, required=True)
    options.add_argument("--server-name", default="localhost")
    for flag in ["--resume", "--zero-rtt", "--key-update", "--multiconnect", "--unknown-version"]:
        options.add_argument(flag, action="store_true")
    options.add_argument("urls", nargs="+")
    roles.choices["server"].add_argument("--retry", action="store_true")
    args = parser.parse_args()
    asyncio.run(run_server(args) if args.role == "server" else run_client(args))


if __name__ == "__main__":
    main()
