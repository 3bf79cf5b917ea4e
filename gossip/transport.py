"""The one file that touches ZeroMQ: authenticated, encrypted frames between named members, and to named
clients.

*Impure.* One ``Transport`` per node and per ZeroMQ context, used from one thread.

Rules.

* A node binds one ROUTER. It dials every other member with one DEALER: frames from A to B travel on A's
  DEALER into B's ROUTER. Clients dial the ROUTER too, and are the only ones answered through it.
* Everything is CURVE. Who a frame came from is the key that the authenticator accepted, by way of the
  ``User-Id`` that libzmq attaches to each frame; what a frame says about itself counts for nothing. A
  stranger's key, an unencrypted peer, and a frame without a ``User-Id`` are refused.
* Sending never blocks and never promises: False means that the frame was dropped here (no link, or the
  link's queue is full), and it is counted. Nothing is queued for a peer that is away.
* Receiving is bounded per call, so that a flood cannot keep the caller from its timers.

The authenticator (ZeroMQ RFC 27, ZAP) is a REP socket polled in the same loop, not pyzmq's
``ThreadAuthenticator``: without a second thread there is no moment at which the ROUTER is bound and nobody
checks keys (the handler is bound first, and a handshake simply waits until it is polled), and no thread to
outlive its node. A ROUTER with a ``ZAP_DOMAIN`` and no handler refuses everybody; without a domain it would
accept everybody.

What it is not: it knows no messages. A link that is up says nothing about the peer's being alive.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

import msgspec
import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from gossip.effects import Connected, Disconnected
from gossip.wire import MAX_FRAME_BYTES

_ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_ZAP_DOMAIN: Final = b"gossip"
LONG_FRAME_BYTES: Final = 64 * 1024
_MEMBER: Final = "member"
_CLIENT: Final = "client"
# pyzmq's own way with messages of several parts joins flags as members of an enumeration, and asks the socket after each part for what
# the part itself tells: that takes twice as long.
_AT_ONCE: Final = int(zmq.DONTWAIT)
_NOT_ALL: Final = int(zmq.DONTWAIT) | int(zmq.SNDMORE)
_READABLE: Final = int(zmq.POLLIN)
_MONITORED: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CONNECT_DELAYED
)


class Tuning(msgspec.Struct, frozen=True):
    """Bounds and patience. ``high_water_mark``: frames queued per link before sends are dropped.
    ``unread_frames``: frames that each connection may have waiting here unread; beyond it the sender waits.
    Both bound memory: a frame may have ``max_frame_bytes``. ``drain``: frames taken per ``poll``. Redials
    start at ``redial_ms`` and double up to ``redial_most_ms``; they never end. Whoever dials in is back, and is
    redialled at once."""

    high_water_mark: int = 256
    unread_frames: int = 16
    drain: int = 512
    redial_ms: int = 100
    redial_most_ms: int = 5_000
    handshake_ms: int = 10_000
    keepalive_s: int = 30
    heartbeat_ms: int = 5_000
    max_frame_bytes: int = MAX_FRAME_BYTES


class Incoming(msgspec.Struct, frozen=True):
    """A frame from an authenticated ``member`` or ``client`` called ``name``. ``identity`` is what
    ``answer`` takes.
    """

    kind: str
    name: str
    identity: bytes
    frame: bytes | memoryview


class Readable(msgspec.Struct, frozen=True):
    """One of the caller's own file descriptors can be read."""

    fd: int


Happening: TypeAlias = Incoming | Connected | Disconnected | Readable


class TransportCounters(msgspec.Struct):
    """What was refused or dropped since the start."""

    denied: int = 0
    unnamed: int = 0
    blocked: int = 0
    dropped: int = 0


class _Link:
    def __init__(self, name: str, address: str, dealer: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        self.name = name
        self.address = address
        self.dealer = dealer
        self.monitor = monitor
        self.up = False  # as the monitor says, like the next
        self.rests = False  # between two redials
        self.told = False  # as the caller was told


class Transport:
    """The sockets of one node. Keys are 32 raw bytes, or 40 characters of Z85.

    ``members``: name -> (address, public key) of every *other* member. ``clients``: public key -> name.
    ``address``: where to listen, e.g. ``tcp://127.0.0.1:0``; port 0 (or ``*``) takes a free one, see
    ``address``. ``denied``, if given, is told why a handshake was refused. Raises ``zmq.ZMQError`` when it
    cannot listen.
    """

    def __init__(
        self,
        address: str,
        public_key: bytes,
        secret_key: bytes,
        members: Mapping[str, tuple[str, bytes]],
        clients: Mapping[bytes, str],
        tuning: Tuning | None = None,
        denied: Callable[[str], None] | None = None,
    ) -> None:
        self.counters = TransportCounters()
        self._tuning = tuning or Tuning()
        self._denied = denied
        self._keys = (_raw_key(public_key), _raw_key(secret_key))
        self._names: dict[bytes, str] = {_raw_key(key): f"{_CLIENT}:{name}" for key, name in clients.items()}
        for name, (_, key) in members.items():  # a key in both places is a member's
            self._names[_raw_key(key)] = f"{_MEMBER}:{name}"
        self._blocked: frozenset[str] = frozenset()
        self._news: list[Happening] = []
        self._poller = zmq.Poller()
        self._extra: frozenset[int] = frozenset()
        self._links: dict[str, _Link] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._zap = self._open_authenticator()
            self._router = self._open_router(address)
            for name, (peer_address, key) in members.items():
                self._links[name] = self._dial(name, peer_address, _raw_key(key))
        except BaseException:
            self._context.destroy(linger=0)
            raise

    @property
    def address(self) -> str:
        """Where this node listens, with the real port."""
        return str(self._router.getsockopt_string(zmq.LAST_ENDPOINT))

    # Frames ---------------------------------------------------------------------------------------------

    def send(self, peer: str, frame: bytes) -> bool:
        """Hand ``frame`` to the link to member ``peer``; False when it was dropped instead."""
        link = self._links.get(peer)
        if link is None or peer in self._blocked:
            self.counters.blocked += link is not None
            return False
        # What the monitor said decides: ZeroMQ itself takes frames for a moment after it has told that the peer is gone.
        if link.up:
            with contextlib.suppress(zmq.Again):
                link.dealer.send(frame, _AT_ONCE)
                return True
        self.counters.dropped += 1
        return False

    def answer(self, identity: bytes, frame: bytes) -> bool:
        """Answer the client that sent an ``Incoming`` with ``identity``; False when it is gone or does not
        read.
        """
        try:
            self._router.send(identity, _NOT_ALL)
            self._router.send(frame, _AT_ONCE)
        except zmq.ZMQError:  # EAGAIN: its queue is full; EHOSTUNREACH: it is gone
            self.counters.dropped += 1
            return False
        return True

    def poll(self, timeout_ms: int, extra_fds: Collection[int] = ()) -> list[Happening]:
        """What happened: at once if anything has, otherwise after at most ``timeout_ms`` milliseconds."""
        self._watch(frozenset(extra_fds))
        out, self._news = self._news, []
        ready = dict(self._poller.poll(0 if out else max(0, timeout_ms)))
        if self._zap in ready:
            self._authenticate()
        for link in self._links.values():
            if link.monitor in ready:
                out += self._observe(link)
        out += [Readable(fd) for fd in sorted(self._extra) if fd in ready]
        if self._router in ready:
            out += self._drain()
        return out

    # Drills ---------------------------------------------------------------------------------------------

    def block(self, peers: Collection[str]) -> None:
        """Drop everything to and from ``peers`` (all blocked ones) until ``unblock``, as a partition
        would.
        """
        self._blocked = frozenset(peers)
        for link in self._links.values():
            self._news += self._tell(link)

    def unblock(self) -> None:
        """Let everybody through again."""
        self.block(())

    def close(self) -> None:
        """Close everything, at once; what was not sent is dropped. Safe to call twice."""
        for link in self._links.values():
            link.dealer.disable_monitor()
            link.monitor.close(linger=0)
            link.dealer.close(linger=0)
        self._links.clear()
        self._context.destroy(linger=0)

    # Sockets --------------------------------------------------------------------------------------------

    def _open_authenticator(self) -> zmq.Socket[bytes]:
        zap = self._context.socket(zmq.REP)
        zap.linger = 0
        zap.bind(_ZAP_ENDPOINT)
        self._poller.register(zap, zmq.POLLIN)
        return zap

    def _open_router(self, address: str) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        self._tune(router)
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = self._keys
        router.zap_domain = _ZAP_DOMAIN
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.bind(_with_wildcard_port(address))
        self._poller.register(router, zmq.POLLIN)
        return router

    def _dial(self, name: str, address: str, key: bytes) -> _Link:
        dealer = self._context.socket(zmq.DEALER)
        self._tune(dealer)
        dealer.curve_publickey, dealer.curve_secretkey = self._keys
        dealer.curve_serverkey = key
        # Queue only on a finished connection: what was meant for a peer that is away is stale when it is
        # back.
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        dealer.setsockopt(zmq.RECONNECT_IVL, self._tuning.redial_ms)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, self._tuning.redial_most_ms)
        monitor = dealer.get_monitor_socket(_MONITORED)
        monitor.linger = 0
        self._poller.register(monitor, zmq.POLLIN)
        dealer.connect(address)
        return _Link(name, address, dealer, monitor)

    def _tune(self, socket: zmq.Socket[bytes]) -> None:
        tuning = self._tuning
        socket.linger = 0
        socket.setsockopt(zmq.SNDHWM, tuning.high_water_mark)
        socket.setsockopt(zmq.RCVHWM, tuning.unread_frames)
        socket.setsockopt(zmq.MAXMSGSIZE, tuning.max_frame_bytes)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, tuning.keepalive_s)
        socket.setsockopt(zmq.HANDSHAKE_IVL, tuning.handshake_ms)
        # A peer that vanished without closing (power, cable) is noticed by heartbeats, not after TCP's long
        # patience.
        socket.setsockopt(zmq.HEARTBEAT_IVL, tuning.heartbeat_ms)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2 * tuning.heartbeat_ms)

    def _watch(self, fds: frozenset[int]) -> None:
        for fd in self._extra - fds:
            self._poller.unregister(fd)
        for fd in fds - self._extra:
            self._poller.register(fd, zmq.POLLIN)
        self._extra = fds

    # Who is it ------------------------------------------------------------------------------------------

    def _authenticate(self) -> None:
        """Answer every handshake that waits for a verdict."""
        while True:
            try:
                request = self._zap.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            name, reason = self._verdict(request)
            version, number = [*request, b"", b""][:2]
            if name:
                verdict = [b"200", b"OK", name.encode(), b""]
                self._redial(name)
            else:
                # 300, "try later", not 400: after a 400 libzmq never redials, and a member that was set up before
                # this node's list named it would have to be restarted.
                verdict = [b"300", reason.encode(), b"", b""]
                self.counters.denied += 1
                if self._denied is not None:
                    self._denied(reason)
            self._zap.send_multipart([version, number, *verdict])

    def _verdict(self, request: list[bytes]) -> tuple[str, str]:
        """(who it is, empty for nobody; why not). The request's parts are those of ZeroMQ RFC 27."""
        if len(request) < 6 or request[0] != b"1.0":
            return "", "not a ZAP 1.0 request"
        _, _, domain, address, _, mechanism, *credentials = request
        where = address.decode("utf-8", "replace")
        if domain != _ZAP_DOMAIN or mechanism != b"CURVE" or len(credentials) != 1:
            return "", f"{where}: only CURVE is spoken here"
        name = self._names.get(credentials[0], "")
        if not name:
            return "", f"{where}: unknown key {credentials[0].hex()}"
        return name, ""

    def _redial(self, user: str) -> None:
        """A member dials in: if it was away, the next redial could be seconds off, and it could be told nothing until then."""
        kind, _, name = user.partition(":")
        link = self._links.get(name) if kind == _MEMBER else None
        if link is not None and link.rests:
            link.rests = False  # not again before that redial has failed
            link.dealer.disconnect(link.address)
            link.dealer.connect(link.address)

    def _drain(self) -> list[Happening]:
        out: list[Happening] = []
        for _ in range(self._tuning.drain):
            # Asked first: to be told by an exception that none is left takes longer than a frame.
            if not int(self._router.getsockopt(zmq.EVENTS)) & _READABLE:
                break
            identity, *parts = self._message()
            if len(parts) != 1:
                self.counters.unnamed += 1
                continue
            kind, _, name = _user_of(parts[0]).partition(":")
            if not name:
                self.counters.unnamed += 1
            elif kind == _MEMBER and name in self._blocked:
                self.counters.blocked += 1
            else:
                # A long frame stays where ZeroMQ has it.
                frame = parts[0].bytes if len(parts[0]) < LONG_FRAME_BYTES else parts[0].buffer
                out.append(Incoming(kind, name, identity.bytes, frame))
        return out

    def _message(self) -> list[zmq.Frame]:
        """The parts of the message that waits."""
        parts = [self._router.recv(_AT_ONCE, copy=False)]
        while parts[-1].more:
            parts.append(self._router.recv(_AT_ONCE, copy=False))
        return parts

    # Links ----------------------------------------------------------------------------------------------

    def _observe(self, link: _Link) -> list[Happening]:
        out: list[Happening] = []
        while True:
            try:
                event = parse_monitor_message(link.monitor.recv_multipart(zmq.DONTWAIT))["event"]
            except zmq.Again:
                return out
            link.rests = event == zmq.EVENT_CONNECT_RETRIED
            link.up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            out += self._tell(link)

    def _tell(self, link: _Link) -> list[Happening]:
        up = link.up and link.name not in self._blocked
        if up == link.told:
            return []
        link.told = up
        return [Connected(link.name) if up else Disconnected(link.name)]


def _user_of(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:  # the connection was not authenticated
        return ""


def _raw_key(key: bytes) -> bytes:
    raw = z85.decode(key) if len(key) == 40 else key
    if len(raw) != 32:
        raise ValueError(f"a CURVE key has 32 bytes (or 40 characters of Z85), not {len(key)}")
    return raw


def _with_wildcard_port(address: str) -> str:
    return address[:-1] + "*" if address.endswith(":0") else address
