"""An aioquic client for interop tests.

Connects, does what its options say, and prints one JSON line: what was negotiated, how the connection ended, and
whether the content was right. Exits with 1 when something was not as it must be.
"""

import argparse
import asyncio
import hashlib
import os
import random
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite

from common import ALPN, ECHO, HQ, RESERVED_VERSION, note, say, terminated


class Failure(Exception):
    """Something was not as it must be."""


class Protocol(QuicConnectionProtocol):
    """One connection: streams as futures."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.handshake = asyncio.get_running_loop().create_future()
        self.streams = {}
        self.datagrams = asyncio.Queue()
        self.end = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, events.HandshakeCompleted):
            if not self.handshake.done():
                self.handshake.set_result(event)
        elif isinstance(event, events.StreamDataReceived):
            data, done = self.streams[event.stream_id]
            data += event.data
            if event.end_stream and not done.done():
                done.set_result(bytes(data))
        elif isinstance(event, events.StreamReset):
            _, done = self.streams[event.stream_id]
            if not done.done():
                done.set_exception(Failure(f"stream {event.stream_id} was reset with {event.error_code}"))
        elif isinstance(event, events.DatagramFrameReceived):
            self.datagrams.put_nowait(event.data)
        elif isinstance(event, events.ConnectionTerminated):
            for _, done in self.streams.values():
                if not done.done():
                    done.set_exception(Failure(f"connection ended: {terminated(event)}"))
            if not self.end.done():
                self.end.set_result(terminated(event))

    def begin(self, data):
        """Sends `data` and FIN on a new stream; the result is a future of what comes back."""
        stream_id = self._quic.get_next_available_stream_id()
        done = asyncio.get_running_loop().create_future()
        self.streams[stream_id] = (bytearray(), done)
        self._quic.send_stream_data(stream_id, data, True)
        self.transmit()
        return done

    async def get(self, path, out):
        data = await self.begin(f"GET {path}\r\n".encode())
        if out:
            with open(os.path.join(out, os.path.basename(path)), "wb") as file:
                file.write(data)
        return {"path": path, "len": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    async def echo(self, data):
        if await self.begin(data) != data:
            raise Failure("the echo differs")


async def work(protocol, args, round_):
    """Everything that one connection does."""
    if args.key_update:
        await protocol.ping()
        protocol._quic.request_key_update()
        await protocol.ping()
    files = await asyncio.gather(*(protocol.get(path, args.out) for path in args.get))
    if args.echo_streams:
        rng = random.Random(round_)
        await asyncio.gather(*(protocol.echo(rng.randbytes(args.echo_bytes)) for _ in range(args.echo_streams)))
    for index in range(args.datagrams):
        sent = b"datagram %d" % index
        protocol._quic.send_datagram_frame(sent)
        protocol.transmit()
        if await protocol.datagrams.get() != sent:
            raise Failure("the datagram's echo differs")
    if args.await_close:
        # The request for /close/N is never answered: the connection ends instead.
        protocol.begin(b"GET %s\r\n" % args.await_close.encode()).add_done_callback(lambda done: done.exception())
        await protocol.end
    return files


async def connection(configuration, args, round_, tickets):
    early = args.zero_rtt and round_ > 0
    async with connect(
        args.host,
        args.port,
        configuration=configuration,
        create_protocol=Protocol,
        session_ticket_handler=tickets.append,
        wait_connected=not early,
    ) as protocol:
        files = await asyncio.wait_for(work(protocol, args, round_), args.timeout)
        handshake = await asyncio.wait_for(protocol.handshake, args.timeout)
        result = {
            "alpn": handshake.alpn_protocol,
            "version": protocol._quic._version,
            "resumed": handshake.session_resumed,
            "early_data": handshake.early_data_accepted,
            "retried": protocol._quic._retry_source_connection_id is not None,
            "files": files,
        }
        if args.resume or args.zero_rtt:
            while not tickets:
                await asyncio.wait_for(asyncio.sleep(0.01), args.timeout)
        if not protocol.end.done():
            protocol._quic.close(args.close_code, reason_phrase="done")
            protocol.transmit()
    result["end"] = await asyncio.wait_for(protocol.end, args.timeout)
    return result


def check(args, results):
    """What the options promise."""
    last = results[-1]
    if (args.resume or args.zero_rtt) and not last["resumed"]:
        raise Failure("the session was not resumed")
    if args.zero_rtt and not last["early_data"]:
        raise Failure("early data was not accepted")
    if args.expect_retry and not last["retried"]:
        raise Failure("there was no Retry")


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", help="PEM file of the certificate to trust; without it any is taken")
    parser.add_argument("--server-name", default="localhost")
    parser.add_argument("--alpn", default=HQ, choices=ALPN)
    parser.add_argument("--get", action="append", default=[], help="path to fetch by hq-interop; all at once")
    parser.add_argument("--out", help="where fetched files go")
    parser.add_argument("--echo-streams", type=int, default=0, help="streams at once (ALPN echo)")
    parser.add_argument("--echo-bytes", type=int, default=1 << 20)
    parser.add_argument("--datagrams", type=int, default=0, help="datagrams, one after the other (ALPN echo)")
    parser.add_argument("--resume", action="store_true", help="connect twice, the second time with a ticket")
    parser.add_argument("--zero-rtt", action="store_true", help="and send the second requests as early data")
    parser.add_argument("--key-update", action="store_true")
    parser.add_argument("--version-negotiation", action="store_true", help="begin with a reserved version")
    parser.add_argument("--v2", action="store_true", help="offer QUIC version 2")
    parser.add_argument("--chacha20", action="store_true", help="offer only ChaCha20-Poly1305")
    parser.add_argument("--expect-retry", action="store_true")
    parser.add_argument("--await-close", metavar="PATH", help="ask for PATH and wait for the end of the connection")
    parser.add_argument("--close-code", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60)
    args = parser.parse_args()

    configuration = QuicConfiguration(
        alpn_protocols=[ECHO if args.alpn == ECHO else HQ],
        is_client=True,
        max_datagram_frame_size=65536,
        server_name=args.server_name,
    )
    if args.ca:
        configuration.load_verify_locations(args.ca)
    else:
        configuration.verify_mode = ssl.CERT_NONE
    if args.version_negotiation:
        configuration.original_version = RESERVED_VERSION
        configuration.supported_versions = [RESERVED_VERSION, QuicProtocolVersion.VERSION_1]
    if args.v2:
        configuration.original_version = QuicProtocolVersion.VERSION_1
        configuration.supported_versions = [QuicProtocolVersion.VERSION_2, QuicProtocolVersion.VERSION_1]
    if args.chacha20:
        configuration.cipher_suites = [CipherSuite.CHACHA20_POLY1305_SHA256]

    results = []
    tickets = []
    try:
        for round_ in range(2 if args.resume or args.zero_rtt else 1):
            configuration.session_ticket = tickets[-1] if tickets else None
            results.append(await connection(configuration, args, round_, tickets))
        check(args, results)
    except (Failure, ConnectionError, asyncio.TimeoutError) as error:
        note(f"failed: {error!r}")
        say(ok=False, error=repr(error), connections=results)
        sys.exit(1)
    say(ok=True, connections=results)


if __name__ == "__main__":
    asyncio.run(main())
