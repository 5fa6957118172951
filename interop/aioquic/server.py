"""An aioquic server for interop tests.

Prints {"event": "listening", "port": N} once it is ready, and one JSON line for every handshake and every end of a
connection. Runs until its standard input is closed.
"""

import argparse
import asyncio
import os
import sys

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import SessionTicket

from common import ALPN, BAD_REQUEST, HQ, note, say, terminated

REQUEST_LEN_MAX = 4096


class Protocol(QuicConnectionProtocol):
    """One connection."""

    root = "."

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpn = None
        self.requests = {}

    def quic_event_received(self, event):
        if isinstance(event, events.ProtocolNegotiated):
            self.alpn = event.alpn_protocol
        elif isinstance(event, events.HandshakeCompleted):
            self.alpn = event.alpn_protocol
            say(
                event="connected",
                alpn=event.alpn_protocol,
                resumed=event.session_resumed,
                early_data=event.early_data_accepted,
                version=self._quic._version,
            )
        elif isinstance(event, events.StreamDataReceived):
            self.stream_data(event)
        elif isinstance(event, events.DatagramFrameReceived):
            self._quic.send_datagram_frame(event.data)
            self.transmit()
        elif isinstance(event, events.StreamReset):
            say(event="reset", stream=event.stream_id, code=event.error_code)
            if self.alpn != HQ:
                self._quic.reset_stream(event.stream_id, event.error_code)
        elif isinstance(event, events.StopSendingReceived):
            say(event="stopped", stream=event.stream_id, code=event.error_code)
        elif isinstance(event, events.ConnectionTerminated):
            say(event="terminated", **terminated(event))

    def stream_data(self, event):
        if self.alpn == HQ:
            request = self.requests.setdefault(event.stream_id, bytearray())
            if request is None:
                # It has been answered, and its end came by itself.
                return self.transmit()
            request += event.data
            if len(request) > REQUEST_LEN_MAX:
                self._quic.close(BAD_REQUEST, reason_phrase="request too long")
            elif event.end_stream or request.endswith(b"\n"):
                self.answer(event.stream_id, bytes(request))
        elif event.stream_id % 4 == 0:
            self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)
        self.transmit()

    def answer(self, stream_id, request):
        if self.requests.get(stream_id) is None:
            return
        self.requests[stream_id] = None
        words = request.split()
        if len(words) < 2 or words[0] != b"GET":
            self._quic.close(BAD_REQUEST, reason_phrase="not a GET")
            return
        path = words[1].decode("ascii", "replace")
        if path.startswith("/close/"):
            self._quic.close(int(path.removeprefix("/close/")), reason_phrase="as asked")
            return
        name = os.path.basename(path)
        try:
            with open(os.path.join(self.root, name), "rb") as file:
                self._quic.send_stream_data(stream_id, file.read(), True)
        except OSError as error:
            note(f"{path}: {error}")
            self._quic.reset_stream(stream_id, BAD_REQUEST)


class Tickets:
    """The session tickets given out, kept in memory."""

    def __init__(self):
        self.tickets = {}

    def add(self, ticket: SessionTicket):
        self.tickets[ticket.ticket] = ticket

    def pop(self, label: bytes):
        return self.tickets.pop(label, None)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--root", default=".", help="files for hq-interop")
    parser.add_argument("--retry", action="store_true", help="validate every address with a Retry packet")
    parser.add_argument("--v2", action="store_true", help="prefer QUIC version 2")
    parser.add_argument("--v1-only", action="store_true", help="speak version 1 alone")
    parser.add_argument("--mtu", type=int, default=1200, help="largest datagram sent")
    args = parser.parse_args()

    configuration = QuicConfiguration(
        alpn_protocols=ALPN,
        is_client=False,
        max_datagram_frame_size=65536,
        max_datagram_size=args.mtu,
    )
    if args.v2:
        configuration.supported_versions = [QuicProtocolVersion.VERSION_2, QuicProtocolVersion.VERSION_1]
    if args.v1_only:
        configuration.supported_versions = [QuicProtocolVersion.VERSION_1]
    configuration.load_cert_chain(args.cert, args.key)
    Protocol.root = args.root
    tickets = Tickets()
    server = await serve(
        args.host,
        args.port,
        configuration=configuration,
        create_protocol=Protocol,
        session_ticket_fetcher=tickets.pop,
        session_ticket_handler=tickets.add,
        retry=args.retry,
    )
    port = server._transport.get_extra_info("sockname")[1]
    say(event="listening", port=port)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
