"""Where a webhook may connect to."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from sinks.notify.publishers.addresses import AddressRefused, PublicOnly, is_literal, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fd00:ec2::254",
        "fe80::1%eth0",
        "ff02::1",
        "localhost",
        "",
    ],
)
def test_an_address_that_is_not_a_public_hosts_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_public(address)


def test_a_name_is_no_literal_address() -> None:
    assert is_literal("::1")
    assert is_literal("127.0.0.1")
    assert not is_literal("example.com")
    assert not is_literal("127.1")  # the system's resolver reads it as 127.0.0.1, and so it is looked at there


class Names(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        self.addresses = ()


def test_only_the_public_addresses_of_a_name_are_left() -> None:
    found = asyncio.run(PublicOnly(Names("10.0.0.1", "8.8.8.8", "169.254.169.254")).resolve("example.com", 443))
    assert [one["host"] for one in found] == ["8.8.8.8"]


def test_a_name_without_a_public_address_is_refused() -> None:
    with pytest.raises(AddressRefused, match=r"example\.com has no public address"):
        asyncio.run(PublicOnly(Names("10.0.0.1")).resolve("example.com", 443))
