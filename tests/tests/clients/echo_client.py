"""Asks the echo server at a URL for all that the protocol has. Prints what has worked."""

import asyncio
import os
import sys

import websockets

URL = sys.argv[1]
LARGE = os.urandom(1 << 20)


def connect():
    return websockets.connect(URL, max_size=None)


async def echo(socket, message):
    await socket.send(message)
    assert await socket.recv() == message


async def main():
    async with connect() as socket:
        for text in ["", "a", "ä\0€", "x" * 70_000]:
            await echo(socket, text)
        print("text")
        for size in [0, 125, 126, 65_535, 65_536]:
            await echo(socket, LARGE[:size])
        await echo(socket, LARGE)
        print("binary")
        await socket.send([LARGE[:10], LARGE[10:100_000], LARGE[100_000:]])
        assert await socket.recv() == LARGE
        print("fragments")
        await (await socket.ping(b"from the client"))
        await socket.send("ping")
        assert await socket.recv() == "pong came"
        print("ping")
        await socket.close(4001, "that was it")
        assert socket.close_code == 4001
    async with connect() as socket:
        await socket.send("how was it closed?")
        assert await socket.recv() == "4001 that was it"
        print("client closes")
        await socket.send("close")
        try:
            await socket.recv()
            raise AssertionError("it goes on")
        except websockets.ConnectionClosed:
            assert (socket.close_code, socket.close_reason) == (4002, "as you wish")
        print("server closes")

    async def one(number):
        async with connect() as socket:
            for size in range(20):
                await echo(socket, LARGE[number : number + size * 500])

    await asyncio.gather(*map(one, range(50)))
    print("many")


asyncio.run(asyncio.wait_for(main(), 50))
