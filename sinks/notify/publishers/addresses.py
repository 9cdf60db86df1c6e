"""Which addresses a webhook may connect to: the public Internet, unless its owner says otherwise.

An address is looked at where the connection is made: what the resolver hands to the connector has been checked, and
nothing resolves the name a second time. A name that is public now and 169.254.169.254 a moment later wins nothing.
"""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

_NOT_PUBLIC = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))
"""Azure's platform, and protocol assignments (Oracle's metadata), which not every Python calls private. The metadata of
other clouds has link-local or private addresses."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(OSError):
    """A name has private, link-local, loopback or metadata addresses only."""


def is_public(text: str) -> bool:
    """Whether an address (of either family, also with a zone) is a host's on the public Internet."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (inner := _inside(address)) is not None:
        address = inner
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end at."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour


def is_literal(host: str) -> bool:
    """Whether a URL's host is an address and no name: such a host is never resolved."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class PublicOnly(AbstractResolver):
    """A resolver that gives public addresses only."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See aiohttp. Raises AddressRefused where no public address is left."""
        found = await self._inner.resolve(host, port, family)
        public = [one for one in found if is_public(one["host"])]
        if not public:
            raise AddressRefused(f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Let go of the inner resolver."""
        await self._inner.close()
