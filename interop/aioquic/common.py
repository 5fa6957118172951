"""What the aioquic server and the aioquic client share."""

import json
import sys

from aioquic.quic import events

# Two application protocols. hq-interop is the one of the public interop suite: "GET /path\r\n" on a bidirectional
# stream is answered with the file and FIN. echo sends back every byte of a stream, and every datagram.
HQ = "hq-interop"
ECHO = "echo"
ALPN = [HQ, ECHO]

# Codes of "echo" streams and connections.
OK = 0
BAD_REQUEST = 0x0BAD

# A version that nobody speaks (RFC 9000, section 15), for version negotiation.
RESERVED_VERSION = 0x1A2A3A4A


def say(**what):
    """One JSON object a line on the standard output: the tests read them."""
    print(json.dumps(what), flush=True)


def note(text):
    """For people, on the standard error stream."""
    print(text, file=sys.stderr, flush=True)


def terminated(event: events.ConnectionTerminated):
    """A connection's end as a dictionary."""
    return {
        "code": int(event.error_code),
        "application": event.frame_type is None,
        "reason": event.reason_phrase,
    }
